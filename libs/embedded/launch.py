"""The start of a server's process: switch the user, get a signal when the parent dies, exec.

A script of its own, because these steps need a process with one thread: a new user namespace refuses more,
and code between fork and exec may hang where there were more. It imports nothing of Tally, and keeps its pid.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL IDENTITY FOLDER COMMAND…

IDENTITY is `self`, `user:UID:GID`, or `namespace:UID`, which is the caller under another number. What goes wrong is
a line on standard error and exit status 127.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


def become(identity: str) -> None:
    match identity.split(":"):
        case ["user", uid, gid]:
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        case ["namespace", number]:
            enter_namespace(int(number))


def enter_namespace(number: int) -> None:
    """Be uid and gid `number`, which stands for the caller's own: files stay his (user_namespaces(7))."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")  # the kernel asks for it before an unprivileged gid_map
    Path("/proc/self/uid_map").write_text(f"{number} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{number} {gid} 1")


def follow(parent: int, death_signal: int) -> None:
    """Get `death_signal` when the parent's thread ends. Last, since a change of uid clears it (prctl(2))."""
    call("prctl", PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("tally: the parent has ended")


def call(name: str, *arguments: int) -> None:
    if ctypes.CDLL(None, use_errno=True)[name](*(ctypes.c_ulong(each) for each in arguments)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def main(parent: str, death_signal: str, identity: str, folder: str, *command: str) -> None:
    try:
        become(identity)
        os.chdir(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "may not write", folder)
        follow(int(parent), int(death_signal))
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would pass that on
        signal.pthread_sigmask(
            signal.SIG_SETMASK, []
        )  # what the parent held back meanwhile is not held back here
        os.execv(command[0], command)  # noqa: S606 - a program of ours, without a shell on purpose
    except OSError as error:
        print(f"tally: cannot start {command[0]} as {identity}: {error}", file=sys.stderr)  # noqa: T201 - to the log
        sys.exit(127)


if __name__ == "__main__":
    main(*sys.argv[1:])
