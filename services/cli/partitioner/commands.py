"""The commands that count events: what they take, and what they say of themselves."""

from typing import Annotated
from uuid import UUID

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, EventType, Video
from services.cli.terminal.video_command import VideoCommand
from tally.contract.rules import MAX_EVENTS


def _check_replay_id(text: str | None) -> str | None:
    try:
        if text is None or UUID(text).version == 7:
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not the id of a replay, which is a UUID of version 7")


def add_commands(app: typer.Typer) -> None:
    """`tally count` and `replay`."""
    app.command(cls=VideoCommand)(count)
    app.command()(replay)


def count(
    video: Video,
    event_type: EventType = "view",
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
