"""The wheel is built and used as by someone who installs it alone: with its dependencies and nothing else."""

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.integration.tally.peer import Peer

ROOT = Path(__file__).parents[3]

USE = """
import sys
sys.path[:0] = sys.argv[2:]
import tally
from tally.client import Durability
from tally.client.blocking import Client

assert tally.__file__.startswith(sys.argv[2]), tally.__file__
with Client(sys.argv[1]) as client:
    assert client.count("v").durability is Durability.JOURNALED
"""


def required(name: str) -> Iterator[str]:
    """The distribution and all that it requires here, extras left out."""
    yield name
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from required(requirement.name)


def test_the_wheel_holds_the_client_the_contract_the_generated_code_and_its_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    protos = list((ROOT / "proto").glob("tally/*/v1/*.proto"))
    assert protos
    for proto in protos:
        path = f"{proto.relative_to(ROOT / 'proto').with_suffix('')}_pb2"
        assert {f"{path}.py", f"{path}.pyi", f"{path}_grpc.py"} <= names
    for package in ("client", "contract"):
        modules = ROOT / "libs" / "tally" / "tally" / package
        assert {f"tally/{package}/{path.relative_to(modules)}" for path in modules.rglob("*.py")} <= names
    assert "tally/py.typed" in names
    assert all(name.startswith(("tally/", "tally_client-")) for name in names)


async def test_the_wheel_counts_with_its_dependencies_alone(wheel: Path, tmp_path: Path, peer: Peer) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    requirements = [
        Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist")
    ]
    direct = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    assert sorted(direct) == ["googleapis-common-protos", "grpcio", "protobuf", "pybreaker"]
    for name in {name for start in direct for name in required(start)}:
        for file in distribution(name).files or ():
            if file.parts[0] != ".." and file.suffix != ".pyc":
                link = tmp_path / "dependencies" / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.locate())
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", "-c", USE, peer.address),
        *(str(tmp_path / "wheel"), str(tmp_path / "dependencies")),
        stderr=subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(script.communicate(), 30)
    assert script.returncode == 0, errors.decode()
    assert len(peer.received) == 1
