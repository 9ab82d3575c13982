"""A throw-away Tally: every service in a child process, on a free port and on stores that end with it.

    with open_stack(folder, folder / "tally.log") as address:  # "127.0.0.1:41233"
        ...

It blocks, so open it outside of an event loop. The child ends with this process however that ends. What is set in the
environment holds for the child too, except where it listens and which stores it has: those are always its own, lest a
DSN of the caller's leads to counts that matter.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types

from libs.embedded.process import make_launch, read_tail
from libs.rpc import ports
from tally.contract.errors import NotReady

START_SECONDS = 120.0
STOP_SECONDS = 60.0
_OWN = ("TALLY_SERVER__ADDRESS", "TALLY_DATA_DIR", "TALLY_POSTGRES__DSN", "TALLY_VALKEY__URL")


@contextmanager
def open_stack(folder: Path, log: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yields `host:port` once every service is serving. Raises NotReady, with the end of `log`.

    `settings`: variables that the child has besides what is set in the environment.
    The data go to `folder` and all output to a new `log`; both are the caller's, who removes them.
    """
    address = f"127.0.0.1:{ports.find_free(1)[0]}"
    with ExitStack() as stack:
        with interrupts_held_back():
            child = _start(folder.absolute(), log, address, settings or {})
            stack.callback(_stop, child)
        _wait_until_serving(child, address, log)
        yield address


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Ctrl-C comes after this, and not between the making of something and the note that it is to be removed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(folder: Path, log: Path, address: str, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _OWN}
    environment |= {**settings, "TALLY_SERVER__ADDRESS": address, "TALLY_DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-m", "services", "all"]
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - constants and paths of our own
            make_launch(command, folder=folder, death_signal=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops it in order
            env=environment,
        )


def _wait_until_serving(child: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while not _is_serving(health):
            if child.poll() is not None:
                raise NotReady(f"Tally did not start: it ended with {child.returncode}. {read_tail(log)}")
            if time.monotonic() > deadline:
                raise NotReady(f"Tally did not start within {START_SECONDS:g} s. {read_tail(log)}")
            time.sleep(0.05)


def _is_serving(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
