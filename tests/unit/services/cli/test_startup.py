import subprocess
import sys

import pytest

from services.registry import SERVICES

_LOADED = (
    "import sys, {module}; print(*(name for name in sys.modules if '.' not in name or 'services.' in name))"
)


def loaded_by(module: str) -> set[str]:
    code = _LOADED.format(module=module)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - constants
    return set(done.stdout.split())


def test_help_loads_no_grpc() -> None:
    assert not loaded_by("services.cli.app") & {
        "grpc",
        "rich",
        "asyncpg",
        "uvloop",
        "numpy",
        "pydantic",
        "services.process.life",
    }


def test_a_command_loads_the_commands_of_no_other_service() -> None:
    code = "import sys; sys.argv[1:] = ['count', '--help']; from services.cli.app import main; main()"
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); "
    command = [sys.executable, "-c", report + code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - constants
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "services.cli.partitioner.commands" in loaded
    packages = {name.split(".")[2] for name in loaded if name.startswith("services.cli.")}
    assert not packages & {service.name for service in SERVICES} - {"partitioner"}


@pytest.mark.parametrize(
    "command",
    [
        *("partitioner.count", "query.get", "partitioner.replay", "suite.status"),
        *("counting.dead_letters", "counting.deciding"),
        *(f"scheduler.{name}" for name in ("importing", "quotas", "jobs", "runs", "workers", "bins")),
    ],
)
def test_a_command_that_calls_loads_no_server(command: str) -> None:
    loaded = loaded_by(f"services.cli.{command}")
    assert "grpc" in loaded
    assert not loaded & {
        "asyncpg",
        "uvloop",
        "numpy",
        "pydantic",
        "services.process.life",
        "services.settings",
    }
