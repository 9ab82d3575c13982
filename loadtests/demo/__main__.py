"""`python -m loadtests.demo [FILE]`: exits 0 only if every count of every video and event type is exact."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from libs.embedded.process import read_tail
from loadtests.demo import report
from loadtests.demo.check import ask_everything, check, is_exact
from loadtests.demo.dataset import Dataset, read_dataset
from loadtests.demo.events import Events, cut, make_events
from loadtests.demo.oracle import Oracle, make_oracle
from loadtests.demo.replay import replay, wait_for_flush
from loadtests.demo.rises import find_rises
from loadtests.stack import interrupts_held_back, open_stack
from tally.client import Client, TallyError
from tally.contract.errors import NotReady

FILE = Path(__file__).parents[1] / "data" / "youtube_trending_us_2017.csv"
_REQUEST_EVENTS = 5_000
_FAILED, _STOPPED = 1, 130


def main(file: Path = FILE) -> int:
    """Run the demo; the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    data_dir = Path(os.environ.get("TALLY_DATA_DIR", ".tally"))
    log = data_dir / "demo.log"
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: what was started is stopped
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        dataset = read_dataset(file)
        rises = list(find_rises(dataset.rows))
        oracle = make_oracle((row.video_id for row in dataset.rows), rises)
        events = make_events(rises)
        report.show_dataset(console, dataset, oracle, file.name)
        console.print(f"Starting a stack of its own; its log is {log}")
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            with interrupts_held_back():
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="demo-", dir=data_dir, ignore_cleanup_errors=True)
                )
            address = stack.enter_context(open_stack(Path(folder), log))
            exact = asyncio.run(_run(console, address, dataset, oracle, events))
        return 0 if exact else _FAILED
    except KeyboardInterrupt:
        return _fail("stopped before the end; nothing is left of the stack", _STOPPED)
    except NotReady as error:
        return _fail(error.message, _FAILED)
    except (TallyError, TimeoutError) as error:
        return _fail(f"{error}\n{read_tail(log)}", _FAILED)
    except OSError as error:
        return _fail(str(error), _FAILED)


async def _run(console: Console, address: str, dataset: Dataset, oracle: Oracle, events: Events) -> bool:
    async with Client(address) as client:
        return await _replay_and_check(console, client, dataset, oracle, events)


async def _replay_and_check(
    console: Console, client: Client, dataset: Dataset, oracle: Oracle, events: Events
) -> bool:
    started = time.perf_counter()
    questions = list(ask_everything(oracle))
    with report.make_progress(console) as progress:
        sending = progress.add_task("Replaying", total=len(events))
        flushing = progress.add_task("Flushing", start=False, visible=False, total=None)
        checking = progress.add_task("Checking", start=False, visible=False, total=len(questions))
        replayed = await replay(client, cut(events, _REQUEST_EVENTS), lambda n: progress.advance(sending, n))
        _begin(progress, flushing)
        await wait_for_flush(client, lambda n, of: progress.update(flushing, completed=n, total=of))
        flushed_seconds = time.perf_counter() - started
        _begin(progress, checking)
        verdict = await check(client, iter(questions), lambda: progress.advance(checking))
    audit = await client.audit()
    exact = is_exact(verdict, audit, oracle)
    report.show_top(console, dataset, oracle, verdict)
    report.show_totals(console, oracle, verdict)
    report.show_speed(console, replayed, flushed_seconds)
    report.show_verdict(console, verdict, audit, exact=exact)
    return exact


def _begin(progress: Progress, phase: TaskID) -> None:
    progress.start_task(phase)
    progress.update(phase, visible=True)


def _fail(message: str, code: int) -> int:
    print(f"demo: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:2])))
