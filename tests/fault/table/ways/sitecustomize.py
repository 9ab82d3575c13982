"""What a process is to find when it starts: a clock that is off, a small disk, or garbage for its answers.

Python imports it by itself.

FAULT_CLOCK_AHEAD_SECONDS: how far the wall clock of the process is ahead. FAULT_DISK, FAULT_DISK_BYTES: a folder, and
the size of the disk that the process alone sees there, empty at its start and gone with it. FAULT_GARBAGE: whether it
answers each Append with garbage, of one kind after the other.
"""

import ctypes
import itertools
import os
import sys
import time
from typing import Any

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def shift_clock(seconds: float) -> None:
    """For everything that asks the module `time`, as all of Tally does.

    Except for deadlines: gRPC's own clock, in C, is not shifted, and it takes the time that a call has left from both.
    """
    time_of, time_ns_of, clock_of = time.time, time.time_ns, time.clock_gettime

    def shifted() -> float:
        asks_for_deadline = sys._getframe(1).f_globals.get("__name__", "").startswith(("libs.rpc.", "grpc."))
        return time_of() + (0 if asks_for_deadline else seconds)

    time.time = shifted
    time.time_ns = lambda: time_ns_of() + int(seconds * 1e9)
    time.clock_gettime = lambda clock: clock_of(clock) + (seconds if clock == time.CLOCK_REALTIME else 0)


def mount_disk(folder: str, size: int) -> None:
    """A tmpfs in a mount namespace of the process's own; without root in a user namespace, too."""
    if os.geteuid() == 0:
        _call("unshare", _CLONE_NEWNS)
    else:
        uid, gid = os.geteuid(), os.getegid()
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _call("mount", b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={size}".encode())


def answer_with_garbage() -> None:
    """In the place of the method Append, of whatever server of this process has one."""
    import grpc

    make = grpc.unary_unary_rpc_method_handler

    def make_garbage(behavior: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
        if getattr(behavior, "__name__", "") != "Append":
            return make(behavior, request_deserializer, response_serializer)
        from tests.support.garbage import ANSWERS
        from tests.support.peer import encode

        turns = itertools.cycle(ANSWERS)

        async def answer(payload: bytes, context: Any) -> bytes:
            return encode(await next(turns)(payload, context))

        return make(answer, bytes, None)

    grpc.unary_unary_rpc_method_handler = make_garbage


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*(ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib is not worth its import here
        file.write(text)


if "FAULT_CLOCK_AHEAD_SECONDS" in os.environ:
    shift_clock(float(os.environ["FAULT_CLOCK_AHEAD_SECONDS"]))
if "FAULT_GARBAGE" in os.environ:
    answer_with_garbage()
if "FAULT_DISK" in os.environ:
    mount_disk(os.environ["FAULT_DISK"], int(os.environ["FAULT_DISK_BYTES"]))
