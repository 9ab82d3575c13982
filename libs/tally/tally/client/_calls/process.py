"""Whether gRPC can run in this process: not in a fork of one where it ran, and not on threads that are greenlets.

In a fork only the thread that forked goes on. The threads of gRPC's core, and the one that polls for grpc.aio, are gone
in the child, and its locks stay as they were: calls hang there, and some crash. gRPC's own handlers
(GRPC_ENABLE_FORK_SUPPORT) cover its synchronous API alone. So it is looked at the fork whether gRPC runs, and in such
a child a client is refused. See docs/adr/0013-refuse-grpc-after-a-fork.md.
"""

import _thread
import gc
import math
import os
import select
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType

import grpc

from tally.client.errors import ClientUnusable

_POLLER = "_poll_wrapper"
"""of grpc.aio: its thread ends with the last channel, and its name has this"""
_CORE_THREADS = ("event_engine", "grpc_", "lifeguard")
"""how Linux's names of the threads of gRPC's core begin, which are not Python's"""
_TASKS = Path("/proc/self/task")
_SETTLING_S, _OWN_SETTLING_S = 0.1, 2.0
"""So long gRPC may take to end its threads: from the fork on, and from the end of a channel of this library. It takes
some 3 ms, and a fork before that would hang in the child."""
_FORK_SUPPORT = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in ("1", "yes", "true")
"""as gRPC reads it, when it is imported"""


class ForkGuard:
    """Remembers, in a child, whether gRPC ran in its parent at the fork."""

    def __init__(self) -> None:
        self.opening = threading.RLock()
        """held while a channel is made, and through a fork, so that a fork never sees half of gRPC's start"""
        self._channels: weakref.WeakSet[grpc.aio.Channel] = weakref.WeakSet()
        self._closed_at = -math.inf
        self._is_polling = False
        """whether grpc.aio runs at the fork that is under way"""
        self._running_in: int | None = None
        """the process that forks, if gRPC runs in it"""
        self._parent: int | None = None
        """the process in which gRPC ran when it was forked into this one, or into one before"""

    def check(self) -> None:
        """Raise ClientUnusable where gRPC cannot work. For threads that are greenlets, too."""
        if self._parent is not None:
            raise ClientUnusable(
                f"gRPC ran in process {self._parent} when it was forked, and does not work in the fork {os.getpid()}. "
                "Close every client in the parent before the fork, or open them only after it (gunicorn: in the "
                "post_fork hook; Celery: on worker_process_init), or start the child anew: "
                'multiprocessing.get_context("spawn")',
                reason="FORKED_WITH_GRPC",
            )
        # Both are functions written in C, unless gevent or eventlet have put their own there.
        if not all(
            isinstance(each, BuiltinFunctionType) for each in (_thread.start_new_thread, select.select)
        ):
            raise ClientUnusable(
                "threads or select are patched (gevent or eventlet), and the client needs those of Python, as grpc.aio "
                "does. Use it in a process of its own, or leave them: monkey.patch_all(thread=False, select=False), "
                "where a call blocks all greenlets. Under gevent, generated stubs work with "
                "grpc.experimental.gevent.init_gevent()",
                reason="THREADS_PATCHED",
            )

    def add(self, channel: grpc.aio.Channel) -> None:
        """A channel has been made."""
        self._channels.add(channel)

    def remove(self, channel: grpc.aio.Channel) -> None:
        """It is closed."""
        with self.opening:
            self._channels.discard(channel)
            self._closed_at = time.monotonic()

    def before_fork(self) -> None:
        self.opening.acquire()
        is_running = self._does_grpc_run()
        self._is_polling = _has_poller()
        self._running_in = os.getpid() if is_running else None

    def after_fork_in_parent(self) -> None:
        self.opening.release()

    def after_fork_in_child(self) -> None:
        self.opening.release()
        if self._running_in is not None:
            self._parent = self._running_in
        if self._is_polling:
            # One user more, who never leaves: the end of the last would wait for a thread that is not here.
            grpc.aio.init_grpc_aio()

    def _does_grpc_run(self) -> bool:
        """Whether a channel is open that no handler of gRPC sees to; they see to none that is just ending."""
        if _has_poller():
            gc.collect()  # a channel that was not closed, or whose call failed, may be in a cycle
        until = max(time.monotonic() + _SETTLING_S, self._closed_at + _OWN_SETTLING_S)
        while not self._channels and (_has_poller() or _has_core_threads()):
            if time.monotonic() >= until:
                return _has_poller() or not _FORK_SUPPORT
            time.sleep(0.001)
        return bool(self._channels)


def _has_poller() -> bool:
    return any(_POLLER in thread.name for thread in threading.enumerate())


def _has_core_threads() -> bool:
    """Never but on Linux."""
    with suppress(OSError):
        for task in _TASKS.iterdir():
            with suppress(OSError):  # it has just ended
                if (task / "comm").read_text().startswith(_CORE_THREADS):
                    return True
    return False


FORK_GUARD = ForkGuard()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=FORK_GUARD.before_fork,
        after_in_parent=FORK_GUARD.after_fork_in_parent,
        after_in_child=FORK_GUARD.after_fork_in_child,
    )
