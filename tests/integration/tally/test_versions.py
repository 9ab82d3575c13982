"""The client on every Python that is here, with the oldest and the newest of its dependencies that the wheel allows.

Each pair is a new virtual environment, filled from PyPI.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.integration.tally.peer import Peer, bad_request, error_info, videos_of
from tests.support.peer import refuse

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")

USE = """
import sys, warnings
warnings.simplefilter("error")
from datetime import UTC, datetime
from importlib.metadata import version
from google.protobuf.internal import api_implementation
from tally.client import Event, InvalidRequest
from tally.client.blocking import Client
from tally.counting.v1 import counting_pb2_grpc, dead_letters_pb2_grpc
from tally.ingest.v1 import ingest_pb2_grpc
from tally.query.v1 import query_pb2_grpc

assert api_implementation.Type() == "upb"
now = datetime.now(UTC)
with Client(sys.argv[1]) as client:
    try:
        client.process_many([Event("refused")])
    except InvalidRequest as error:
        assert [each.field for each in error.violations] == ["columns.video_ids[0]"], error.violations
    client.count("one")
    client.process(Event("two", event_time=now, value=2.5), request_id=client.make_request_id())
    client.process_many([Event("three", event_time=now, value=2.5, actor_id="a")])
    (receipt,) = client.stream([client.batch([Event("four")])])
    assert receipt.accepted_count == 1
print(version("protobuf"), version("grpcio"))
"""


def pythons() -> Iterator[Path]:
    """One of each minor version that the client supports, and this one; pyenv's need not be switched on."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield Path(sys.executable)
    for minor in {11, 12, 13} - {sys.version_info.minor}:
        name = f"python3.{minor}"
        found = [*versions.glob(f"3.{minor}.*/bin/{name}"), *map(Path, filter(None, [shutil.which(name)]))]
        yield from [python for python in found if is_usable(python)][:1]


def is_usable(python: Path) -> bool:
    return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0  # noqa: S603


async def run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("resolution", "protobuf"), [("lowest", "6."), ("highest", "7.")])
@pytest.mark.parametrize("python", [*pythons()], ids=lambda python: python.resolve().name)
async def test_the_client_works_with_two_majors_of_protobuf(
    peer: Peer, wheel: Path, tmp_path: Path, python: Path, resolution: str, protobuf: str
) -> None:
    await run(UV, "venv", "-q", "--python", python, tmp_path / "venv")
    own = tmp_path / "venv" / "bin" / "python"
    await run(UV, "pip", "install", "-q", "--python", own, "--resolution", resolution, wheel)
    details = bad_request(**{"columns.video_ids[0]": "no"})
    peer.turns.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, "no", error_info("INVALID_REQUEST"), details))
    versions = (await run(own, "-c", USE, peer.address)).split()
    assert versions[0].startswith(protobuf)
    bounds = tomllib.loads((ROOT / "libs" / "tally" / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    if resolution == "lowest":
        assert {f"protobuf>={versions[0]},<8", f"grpcio>={versions[1]}"} <= set(bounds)
    batches = [r for r in peer.received if r.rpc in ("ProcessEvents", "StreamEvents")]
    assert [videos_of(batch) for batch in batches] == [["refused"], ["one"], ["three"], ["four"]]
