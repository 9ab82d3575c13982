"""The settings of the environment, or a sentence for each invalid one."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from services import settings
from services.cli.terminal.failure import USAGE, Failure


def read_settings() -> settings.Settings:
    """Read them. Raises Failure."""
    try:
        return settings.read_settings()
    except ValidationError as error:
        raise Failure("\n".join(_problem(each) for each in error.errors()), USAGE) from error
    except SettingsError as error:  # it does not say which variable
        raise Failure(
            f"{error}. A list is written as JSON: TALLY_PARTITIONER__SHARDS='[\"host:50051\"]'", USAGE
        ) from error


def _problem(error: ErrorDetails) -> str:
    name = "__".join(str(part) for part in error["loc"]).upper()
    match error["type"]:
        case "extra_forbidden":
            message = "there is no such setting"
        case "value_error":  # a check of ours, whose sentence pydantic would begin with words of its own
            message = str(error["ctx"]["error"])
        case _:
            message = error["msg"]
    return f"TALLY_{name}: {message}" if name else message  # without one it is of several settings
