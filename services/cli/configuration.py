"""The settings of the environment, or a sentence for each that is wrong."""

from pydantic import ValidationError

from services.cli.failure import USAGE, Failure
from services.settings import Settings


def read_settings() -> Settings:
    """Read them. Raises Failure."""
    try:
        return Settings()
    except ValidationError as error:
        raise Failure(
            "\n".join(_problem(each["loc"], each["msg"]) for each in error.errors()), USAGE
        ) from error


def _problem(place: tuple[int | str, ...], message: str) -> str:
    name = "__".join(str(part) for part in place).upper()
    return f"TALLY_{name}: {message}"
