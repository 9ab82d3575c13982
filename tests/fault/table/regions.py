"""The line of two regions: both count and index under load while their processes are killed.

In the end the counts over all regions are the sum of what each region acknowledged, at both ends; the entries are those
that were acknowledged, and both ends compare as equal.
"""

import asyncio
import os
import random
import re
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from libs.rpc import ports
from tally.client import Event, TallyError
from tally.client.request_id import RequestIds
from tally.query.v1 import query_pb2, query_pb2_grpc
from tally.replication.v1 import entries_pb2, entries_pb2_grpc, replication_pb2, replication_pb2_grpc
from tests.fault.table.round import Row
from tests.support.eventually import eventually
from tests.support.reach import cluster_options, open_channel, open_client, variables

NAME = "kill -9 of two regions under load"
_START_SECONDS, _STOP_SECONDS = 180.0, 90.0
_APART_SECONDS = 6.0
_KILLS = 4
_REST_SECONDS = 90.0
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
_VIDEOS = 20
_ENTRIES = 200
_ENVIRONMENT = {"TALLY_REPLICATION__ROLLUPS__PASS_SECONDS": "0.5", "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True)
class RegionLoad:
    """What one region was asked for, and what it has acknowledged."""

    name: str
    address: str
    acknowledged: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answered: int = 0
    failed: int = 0
    location: str = ""
    entries: dict[str, str] = field(default_factory=dict)
    """id → name, as they were acknowledged"""

    async def count(self, prefix: str, chance: random.Random, stopping: asyncio.Event) -> None:
        """Requests of several events, each sent again under its id until it has an answer."""
        ids = RequestIds()
        async with open_client(self.address, timeout=_CALL_SECONDS) as client:
            while not stopping.is_set():
                videos = [f"{prefix}{chance.randrange(_VIDEOS)}" for _ in range(chance.randint(1, 20))]
                events, request_id = [Event(video) for video in videos], ids.make()
                self.requests += 1
                while True:
                    try:
                        await client.process_many(events, request_id=request_id, timeout=_CALL_SECONDS)
                    except TallyError:
                        self.failed += 1
                        await asyncio.sleep(_PAUSE_SECONDS * 4)
                        continue
                    break
                self.answered += 1
                self.acknowledged.update(videos)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def index(self, chance: random.Random, stopping: asyncio.Event) -> None:
        """Puts and deletes in one location, each sent again until it has an answer."""
        async with open_channel(self.address) as channel:
            stub: Any = entries_pb2_grpc.EntryServiceStub(channel)
            self.location = str(uuid.UUID(int=chance.getrandbits(128)))
            put = entries_pb2.PutLocationRequest(location_id=self.location, kind="load", origin=self.name)
            await self._until_answered(stub.PutLocation, put)
            number = 0
            while not stopping.is_set():
                number += 1
                keys = [
                    str(uuid.UUID(int=chance.randrange(1, _ENTRIES) << 64))
                    for _ in range(chance.randint(1, 40))
                ]
                changed = dict.fromkeys(keys, f"{self.name} {number}")
                if chance.random() < 0.3:
                    request: Any = entries_pb2.DeleteEntriesRequest(location_id=self.location, entry_ids=keys)
                    await self._until_answered(stub.DeleteEntries, request)
                    self.entries = {key: name for key, name in self.entries.items() if key not in changed}
                else:
                    entries = [
                        entries_pb2.Entry(entry_id=key, kind="file", name=name)
                        for key, name in changed.items()
                    ]
                    request = entries_pb2.PutEntriesRequest(location_id=self.location, entries=entries)
                    await self._until_answered(stub.PutEntries, request)
                    self.entries |= changed
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _until_answered(self, send: Any, request: Any) -> None:
        while True:
            try:
                await send(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError:
                self.failed += 1
                await asyncio.sleep(_PAUSE_SECONDS * 4)
            else:
                return


async def run_regions(folder: Path, chance: random.Random, kills: int = _KILLS) -> Row:
    """Run two regions under load, kill their processes, and check everything."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (f"127.0.0.1:{port}" for port in ports.find_free(2))
    loads = [RegionLoad("first", first), RegionLoad("second", second)]
    prefix = f"regions/{chance.randrange(10**9)}/"
    log = folder / "regions.log"
    wrong: list[str] = []
    async with _regions(first, second, folder / "data", log):
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for load in loads:
                tasks.create_task(load.count(prefix, random.Random(chance.random()), stopping))
                tasks.create_task(load.index(random.Random(chance.random()), stopping))
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(1.0, _APART_SECONDS))
                with suppress(ProcessLookupError):  # it is not back yet from the kill before
                    os.kill(_pid_of(log, chance.choice(loads).name), signal.SIGKILL)
            await asyncio.sleep(1.0)
            stopping.set()
        for load in loads:
            wrong += await _check(load, loads, prefix)
        restarts = len(re.findall(r"is back, pid", log.read_text()))
    if kills and not restarts:
        wrong.append("no process was started again")
    requests = sum(load.requests for load in loads)
    return Row(
        NAME,
        requests,
        sum(load.answered for load in loads),
        requests - sum(load.answered for load in loads),
        0,
        sum(load.failed for load in loads),
        0,
        0,
        None,
        None,
        (f"{kills} kills, {sum(len(load.entries) for load in loads)} entries",),
        tuple(wrong),
    )


async def _check(load: RegionLoad, loads: list[RegionLoad], prefix: str) -> list[str]:
    """What is wrong as one region sees it, once everything has had time to arrive."""
    wrong: list[str] = []

    async def is_right() -> bool:
        try:
            wrong[:] = await _differences(load, loads, prefix)
        except grpc.aio.AioRpcError as error:
            wrong[:] = [f"at {load.name}: {error.details()}"]
        return not wrong

    try:
        await eventually(is_right, _REST_SECONDS)
    except AssertionError:
        return wrong[:5]
    return []


async def _differences(load: RegionLoad, loads: list[RegionLoad], prefix: str) -> list[str]:
    wrong = []
    async with open_channel(load.address) as channel:
        query: Any = query_pb2_grpc.QueryServiceStub(channel)
        entries: Any = entries_pb2_grpc.EntryServiceStub(channel)
        operators: Any = replication_pb2_grpc.ReplicationServiceStub(channel)
        for number in range(_VIDEOS):
            video = f"{prefix}{number}"
            request = query_pb2.GetCountRequest(video_id=video, event_type="view", scope=query_pb2.SCOPE_ALL)
            found = await query.GetCount(request, timeout=_CALL_SECONDS)
            expected = sum(each.acknowledged[video] for each in loads)
            if found.count != expected or found.is_incomplete:
                parts = {part.name: part.count for part in found.regions}
                acknowledged = {each.name: each.acknowledged[video] for each in loads}
                wrong.append(f"at {load.name}, {video}: counted {parts}, acknowledged {acknowledged}")
        for each in loads:
            listed: dict[str, str] = {}
            token = ""
            while True:
                page = await entries.ListEntries(
                    entries_pb2.ListEntriesRequest(
                        location_id=each.location, page_size=1000, page_token=token
                    ),
                    timeout=_CALL_SECONDS,
                )
                listed |= {entry.entry_id: entry.name for entry in page.entries}
                if not (token := page.next_page_token):
                    break
            if listed != each.entries:
                wrong.append(
                    f"at {load.name}: {len(listed)} entries of {each.name}, which acknowledged {len(each.entries)}"
                )
        peers = await operators.ListPeers(replication_pb2.ListPeersRequest(), timeout=_CALL_SECONDS)
        for region in peers.regions:
            if region.is_own:
                continue
            compared = await operators.Verify(
                replication_pb2.VerifyRequest(device_id=region.device_id), timeout=60
            )
            wrong += [
                f"at {load.name}: location {verdict.location_id} of {region.name} compares as {verdict.verdict}"
                for verdict in compared.locations
                if verdict.verdict != replication_pb2.VERDICT_EQUAL
            ]
    return wrong


@asynccontextmanager
async def _regions(first: str, second: str, data: Path, log: Path) -> AsyncIterator[None]:
    """`tally regions up`, until both serve."""
    arguments = ["regions", "up", "--data-dir", str(data), "--first", first, "--second", second]
    arguments += cluster_options(data)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "tally"),
            *arguments,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables(), **_ENVIRONMENT},
        )

    async def is_serving() -> bool:
        assert process.returncode is None, log.read_text()
        return "Two regions are serving" in log.read_text()

    try:
        await eventually(is_serving, _START_SECONDS)
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()


def _pid_of(log: Path, name: str) -> int:
    """The process of a region, as it was last started."""
    found = re.findall(rf"^\s*{name} .*pid (\d+)", log.read_text(), re.MULTILINE)
    return int(found[-1])
