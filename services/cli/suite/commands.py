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
    """`tally up`, `cluster`, `status`, `trace`, `migrate`, `certificates` and `token`."""
    for command in (up, cluster, status, migrate, certificates, token):
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
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", help="TLS and roles everywhere, with the certificates in certificates/ among the data."
        ),
    ] = False,
) -> None:
    """Run a cluster on this machine, until Ctrl-C.

    Every service runs in processes of its own, behind Envoy as the front proxy, on a Postgres and a Valkey of
    its own. Whatever dies is started again. The data are those of `tally up`, which cannot run at the same time.
    With --tls it makes certificates, as `tally certificates` does, where there are none.

    \b
    Examples:
      tally cluster
      tally cluster --replicas counting=1 --replicas query=1 --data-dir /tmp/tally
    """
    end_on_signals()
    from services.cli.suite.cluster import run

    run(_read_replicas(replicas or []), address, data_dir, tls=tls)


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


def certificates(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where they are.")] = Path(
        ".tally/certificates"
    ),
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="HOST", help="A name or address of the servers; may be repeated."),
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", min=1, help="How long they are good.")] = 365,
) -> None:
    """Make certificates for services, front proxy and operator, with an authority of their own.

    They are for a cluster on one machine, and for trying out. Run again, it renews all but the authority, and running
    servers take the new ones. callers.toml in the folder says what each name may do.

    \b
    Example:
      tally certificates --host tally.example --folder /etc/tally
    """
    from services.devcluster.certificates import make_certificates
    from tally.contract.errors import NotReady

    try:
        made = make_certificates(folder.absolute(), hosts or [], days)
    except (NotReady, OSError, ValueError) as error:
        raise Failure(f"cannot make certificates in {folder}: {error}") from error
    typer.echo(f"The authority, certificates and callers are in {made.folder}. For a server:\n")
    for name, value in made.environment().items():
        typer.echo(f"  {name}={value}")
    typer.echo("\nFor `tally` as the operator:\n")
    for name, value in made.environment_of_operator().items():
        typer.echo(f"  {name}={value}")


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, as the log has it.")],
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="write or read; may be repeated.", show_default="both"),
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="PREFIX", help="Only for videos whose id begins so.")
    ] = "",
    event_types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only for these types of events; may be repeated."),
    ] = None,
) -> None:
    """Make a token by which the services know an application, and what to write into their file of callers.

    The token goes to standard output, and is kept nowhere: the file has its hash.

    \b
    Example:
      tally token "web of tenant a" --role write --prefix tenant-a/ > web.token
    """
    from services.cli.suite.token import make_token

    made = make_token(name, roles or ["write", "read"], prefix, event_types)
    typer.echo(
        f"Write this into the file of callers (TALLY_SERVER__ROLES__CALLERS_FILE):\n\n{made.entry}", err=True
    )
    typer.echo(made.token)
