"""Running services in the foreground: what `tally up` and `python -m services` do."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import structlog
import uvloop

from libs.runtime.background import LoopDied
from libs.telemetry.logs import set_up_logs
from services.cli.terminal.advice import own_command, say_where
from services.cli.terminal.configuration import read_settings
from services.cli.terminal.failure import OK, REFUSED, USAGE, Failure
from services.cli.terminal.output import under_way
from services.process.foreground import run_process
from services.registry import ALL, check_names
from services.settings import Settings
from tally.contract.errors import TallyError

_LOGGER = structlog.get_logger(__name__)


def run(names: Sequence[str]) -> int:
    """Run services until Ctrl-C or SIGTERM; the exit code."""
    try:
        check_names(names)
    except TallyError as error:
        return _fail(error.message, USAGE)
    try:
        settings = read_settings()
        set_up_logs(settings.log)

        uvloop.run(_run(names, settings))
    except Failure as failure:
        return _fail(failure.message, failure.exit_code)
    except TallyError as error:
        return _fail(error.message, REFUSED)
    except LoopDied as error:
        return _fail(f"cannot go on: {error}", REFUSED)
    return OK


async def _run(names: Sequence[str], settings: Settings) -> None:
    """Talk to the person who started all of it, or to the log that a single service writes."""
    if ALL in names:
        await run_process(
            settings,
            names,
            lambda what: _say(under_way(what)),
            lambda server: _say(_banner(settings, server.address)),
            give_up,
        )
    else:
        await run_process(
            settings,
            names,
            _LOGGER.info,
            lambda server: _LOGGER.info("serving", services=list(names), address=server.address),
            give_up,
        )


def _banner(settings: Settings, address: str) -> str:
    lines = ["", "Tally is serving.", "", f"  gRPC   {address}"]
    if settings.postgres.dsn is None:
        lines.append(f"  data   {settings.data_dir.absolute()}")
    tally = own_command()
    where = say_where(address)
    lines += [
        "",
        "Count a view, and read it back:",
        "",
        f"  {tally} count MBdVXkSdhwU{where}",
        f"  {tally} get MBdVXkSdhwU --strong{where}",
        "",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def give_up(message: str) -> NoReturn:
    """End the process at once. The kernel tells its children (`libs.embedded.launch`)."""
    _fail(f"cannot go on: {message}", REFUSED)
    os._exit(REFUSED)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  to the terminal


def _fail(message: str, exit_code: int) -> int:
    print(f"tally: {message}", file=sys.stderr, flush=True)  # noqa: T201  to the terminal
    return exit_code
