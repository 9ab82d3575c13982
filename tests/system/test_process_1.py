"""As process 1 of a container, Tally ends at SIGTERM from its first moments on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.system

_FIRST_LIBRARY = "_pydantic_core"
"""among the first of what is imported; gRPC and most of Tally come after it"""


@pytest.mark.parametrize("moment", ["while it imports", "while it opens Postgres"])
def test_a_signal_ends_it_however_far_it_has_come(tmp_path: Path, moment: str) -> None:
    data = tmp_path / "data"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "services", "all"],  # noqa: S607
        env={**os.environ, "TALLY_DATA_DIR": str(data), "TALLY_SERVER__ADDRESS": "127.0.0.1:0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as outer:
        try:
            wait_until(lambda: bool(psutil.Process(outer.pid).children()))
            (inner,) = psutil.Process(outer.pid).children()
            if moment == "while it imports":
                wait_until(lambda: _FIRST_LIBRARY in Path(f"/proc/{inner.pid}/maps").read_text())
            else:
                wait_until((data / "postgres" / "lock").exists)
            inner.send_signal(signal.SIGTERM)
            assert outer.wait(20) == 0
        finally:
            outer.kill()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        threading.Event().wait(0.001)
