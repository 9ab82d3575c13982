"""On what a run was made."""

import asyncio
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from libs.embedded.postgres import find_binaries
from libs.embedded.valkey import find_binary

_PACKAGES = ("grpcio", "protobuf", "uvloop", "numpy", "asyncpg", "redis")


async def describe_machine() -> dict[str, Any]:
    """Processor, memory and versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "postgres": await _ask_version(find_binaries() / "postgres"),
        "valkey": await _ask_version(find_binary()),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


async def _ask_version(binary: Path) -> str:
    child = await asyncio.create_subprocess_exec(binary, "--version", stdout=asyncio.subprocess.PIPE)
    printed, _ = await child.communicate()
    return printed.decode().strip()
