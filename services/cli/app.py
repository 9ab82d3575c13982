"""The `tally` command: what it takes, what it says of itself, and how it ends.

What a command needs is imported when it runs: `tally count` should not wait for the servers' libraries.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import UUID

import typer

from libs.domain.rules import MAX_EVENTS
from services.cli.backfill.commands import make_backfill
from services.cli.catalog.commands import make_catalog
from services.cli.counting.dead_letter_commands import make_dead_letters
from services.cli.counting.floor_commands import make_floor
from services.cli.replication.location_commands import make_locations
from services.cli.replication.region_commands import make_regions
from services.cli.replication.replication_commands import make_replication
from services.cli.scheduler.job_commands import make_jobs
from services.cli.scheduler.member_commands import make_channels, make_videos
from services.cli.scheduler.quota_commands import make_quota
from services.cli.terminal.failure import OK, USAGE, Failure
from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, check_address
from services.cli.terminal.video_command import VideoCommand
from services.registry import BY_NAME, SERVICES
from services.startup import end_on_signals, prepare_streams

MAX_REPLICAS = 64


def _check_host_and_port(address: str) -> str:
    if address.startswith("unix:"):
        raise typer.BadParameter(f"{address!r} should be host:port, for example {DEFAULT_ADDRESS}")
    return check_address(address)


def _check_replay_id(text: str | None) -> str | None:
    try:
        if text is None or UUID(text).version == 7:
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not the id of a replay, which is a UUID of version 7")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tally {version('tally-services')}")
        raise typer.Exit(OK)


Video = Annotated[
    str,
    typer.Argument(
        metavar="VIDEO",
        help="The video's id. One that begins with - goes last, after a --.",
        show_default=False,
    ),
]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="What happened: view, like, …")]


def main() -> None:
    """Run the command line and exit."""
    prepare_streams()
    # Else gRPC's core prints notes of its own, for example of connections that a stopping server ends.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        for argument in sys.argv:
            argument.encode()
        make_app()()
    except Failure as failure:
        _end(failure.message, failure.exit_code)
    except UnicodeEncodeError as error:
        # Bytes of the command line or the environment that are not UTF-8 are lone surrogates here (PEP 383).
        if not any("\ud800" <= character <= "\udfff" for character in str(error.object)):
            raise
        _end(f"{error.object!a} is not UTF-8, which names must be", USAGE)


def _end(message: str, exit_code: int) -> NoReturn:
    print(f"tally: {message}", file=sys.stderr)  # noqa: T201 - to whoever started it
    sys.exit(exit_code)


def make_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="tally",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help, which is the same in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(tally)
    for command in (up, cluster, count, get, replay, status, migrate):
        app.command(cls=VideoCommand if command in (count, get) else None)(command)
    app.add_typer(make_dead_letters(), name="dead-letters")
    app.add_typer(make_floor(), name="floor")
    app.add_typer(make_videos(), name="videos")
    app.add_typer(make_channels(), name="channels")
    app.add_typer(make_quota(), name="quota")
    app.add_typer(make_jobs(), name="jobs")
    app.add_typer(make_catalog(), name="catalog")
    app.add_typer(make_regions(), name="regions")
    app.add_typer(make_locations(), name="locations")
    app.add_typer(make_replication(), name="replication")
    app.add_typer(make_backfill(), name="backfill")
    return app


def tally(
    is_version_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Count video events exactly once, and read the counts.

    \b
    Exit codes:
      0  done, all is well
      1  the service refused, or what was checked is not as it should be
      2  the command was used in a wrong way
      3  nothing answers, or a write had no answer and may or may not have been counted

    \b
    Start with:
      tally up
      tally count MBdVXkSdhwU
      tally get MBdVXkSdhwU --strong
    """
    _ = is_version_wanted  # its callback has seen to it


def up(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"{', '.join(BY_NAME)}; or all.", show_default="all"),
    ] = None,
) -> None:
    """Run services in the foreground, until Ctrl-C.

    Without a name it runs all of them, on a Postgres and a Valkey of its own, with the data in .tally/
    (TALLY_DATA_DIR), at 127.0.0.1:50051 (TALLY_SERVER__ADDRESS). With names it needs TALLY_POSTGRES__DSN and
    TALLY_VALKEY__URL.

    \b
    Example:
      tally up
    """
    end_on_signals()
    from services.cli.suite.up import run

    raise typer.Exit(run(names or ["all"]))


def cluster(
    replicas: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="How many processes of a service; may be repeated.",
            show_default=" ".join(f"{service.name}={service.replicas}" for service in SERVICES),
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            envvar="TALLY_SERVER__ADDRESS",
            metavar="HOST:PORT",
            callback=_check_host_and_port,
            help="Where the front door listens.",
        ),
    ] = DEFAULT_ADDRESS,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="TALLY_DATA_DIR", metavar="FOLDER", help="Where the data are.", show_default=".tally"
        ),
    ] = None,
) -> None:
    """Run a cluster on this machine, until Ctrl-C.

    Every service runs in processes of its own, behind Envoy as the front door, on a Postgres and a Valkey of
    its own. Whatever dies is started again. The data are those of `tally up`, which cannot run at the same time.

    \b
    Examples:
      tally cluster
      tally cluster --replicas counting=1 --replicas query=1 --data-dir /tmp/tally
    """
    end_on_signals()
    from services.cli.suite.cluster import run

    run(_read_replicas(replicas or []), address, data_dir)


def _read_replicas(texts: Sequence[str]) -> dict[str, int]:
    """Raises BadParameter for what is not NAME=N."""
    replicas = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in BY_NAME or not number.isdecimal() or not 1 <= int(number) <= MAX_REPLICAS:
            raise typer.BadParameter(
                f"{text!r} is not NAME=N with a service ({', '.join(BY_NAME)}) and a number from 1 to {MAX_REPLICAS}",
                param_hint="--replicas",
            )
        replicas[name] = int(number)
    return replicas


def count(
    video: Video,
    event_type: Type = "view",
    times: Annotated[int, typer.Option(metavar="N", min=1, max=MAX_EVENTS, help="How many events.")] = 1,
    request_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Of an earlier try without an answer, so that it counts once."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Count an event that happens now.

    With --times it counts so many of them in one request: all or none.

    \b
    Example:
      tally count MBdVXkSdhwU --type like --times 3
    """
    from services.cli.partitioner.count import count as run

    typer.echo(run(address, video, event_type, times, request_id))


def get(
    video: Video,
    event_type: Type = "view",
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From this minute on.", show_default="the beginning"),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Up to this minute, without it.", show_default="the end"),
    ] = None,
    strong: Annotated[
        bool,
        typer.Option("--strong", help="With everything that was journaled before; otherwise it may lag."),
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Print a count: of all time, or of a range.

    A time is ISO 8601, in UTC unless it names a zone: 2017-09-20T12:30:00Z, 20170920, 2017. Or it is a number since
    1970 with its unit (1505910600s, ms, us); without a unit it must lie between 2000 and 2100 in one of them.

    \b
    Example:
      tally get MBdVXkSdhwU --from 2017-09-20 --to 2017-09-21T12:30:00Z
    """
    from services.cli.query.get import get as run
    from services.cli.terminal.times import parse_range

    range_start, range_end = parse_range(start, end)
    typer.echo(run(address, video, event_type, range_start, range_end, strong=strong, as_json=as_json))


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or JSON lines; - is standard input.")],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines out; otherwise they stop the replay.")
    ] = False,
    max_bad: Annotated[
        float,
        typer.Option(
            metavar="PERCENT", min=0, max=100, help="With --skip-bad: exit with 1 if more lines were bad."
        ),
    ] = 10.0,
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", callback=_check_replay_id, help="Go on with a replay that was cut off."),
    ] = None,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to send again what has no answer.")
    ] = 60.0,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Count the events of a file.

    The fields are video_id, event_type, event_time, value, actor_id and function; only video_id is needed. A
    CSV file names its columns in the first line, and each line is an event: a quoted value cannot hold a line break. A
    time is ISO 8601, in UTC unless it names a zone, or a number since 1970 as for `get`; without one, an event happens
    when it is received.

    Lines go in requests of 5,000: all of a request are counted or none. A replay that was cut off can be run again
    with --resume and the id that it printed, on the same file, within 24 hours of its start: it sends
    everything again under the same request ids, and what was counted comes back as duplicate.

    \b
    Examples:
      tally replay events.csv
      zcat events.jsonl.gz | tally replay - --skip-bad
    """
    from services.cli.partitioner.replay import replay as run

    run(file, address, skip_bad=skip_bad, max_bad_percent=max_bad, resume=resume, patience_s=patience)


def status(
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Show whether all is well.

    That is: the services and their health, the shards and their partitions, the logs and their lag, and the
    discrepancy between journal and rollups, which must be 0.

    Exits with 1 when something is not SERVING or the discrepancy is not 0. The shards are asked at the addresses that
    the partitioner has, so run it where these can be reached.

    \b
    Example:
      tally status --json
    """
    from services.cli.suite import status as module

    found = module.read_status(address)
    if as_json:
        typer.echo(module.to_json(found))
    else:
        module.show(found)
    if found.problems:
        raise Failure("; ".join(found.problems))


def migrate() -> None:
    """Bring the database of TALLY_POSTGRES__DSN up to date. Harmless to repeat.

    A new cluster gets as many partitions as TALLY_PARTITION_COUNT says (16), for its life.

    \b
    Example:
      TALLY_POSTGRES__DSN=postgresql://tally@db.example/tally tally migrate
    """
    from services.cli.suite.migrate import migrate as run

    for name in run() or ["nothing to do"]:
        typer.echo(name)
