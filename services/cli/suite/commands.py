"""The commands of no single service: what they take, and what they say of themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal.failure import Failure
from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson, EventType, Video, check_address
from services.cli.terminal.video_command import VideoCommand
from services.registry import BY_NAME, SERVICES
from services.startup import end_on_signals

MAX_REPLICAS = 64


def _check_host_and_port(address: str) -> str:
    if address.startswith("unix:"):
        raise typer.BadParameter(f"{address!r} should be host:port, for example {DEFAULT_ADDRESS}")
    return check_address(address)


def add_commands(app: typer.Typer) -> None:
    """`tally up`, `cluster`, `status`, `trace` and `migrate`."""
    for command in (up, cluster, status, migrate):
        app.command()(command)
    app.command(cls=VideoCommand)(trace)


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
            help="Where the front proxy listens.",
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

    Every service runs in processes of its own, behind Envoy as the front proxy, on a Postgres and a Valkey of
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


def trace(
    video: Video,
    event_type: EventType = "view",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where a process serves its metrics and traces; may be repeated.",
            show_default="those in targets.json of the data folder",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the flush.")
    ] = 10.0,
    data_dir: Annotated[
        Path, typer.Option(envvar="TALLY_DATA_DIR", metavar="FOLDER", help="Of the Tally that runs.")
    ] = Path(".tally"),
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Count an event, and show what happens to it: its trace as a tree with times.

    The trace leads from the request of the client through partitioner and shard to the journal commit that made the
    event durable, and on to the flush that added it to the rollups. The services keep recent traces in memory and
    serve them at TALLY_TELEMETRY__ADDRESS, which `tally cluster` sets for each of its processes.

    \b
    Examples:
      tally trace MBdVXkSdhwU
      tally trace MBdVXkSdhwU --address tally:50051 --target partitioner:9464 --target counting-0:9464
    """
    from services.cli.suite.trace import trace as run

    run(address, video, event_type, target or [], data_dir, seconds)


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
