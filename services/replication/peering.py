"""Calls to other regions on request of an operator or a setting."""

import uuid
from collections.abc import Sequence
from typing import Any

import grpc

from libs.rpc.channel import ChannelSettings, open_channel
from libs.stores.postgres import reaching_postgres
from services.replication.hashing import Sums
from services.replication.regions import Region, list_regions, put_region
from services.replication.verify import There, Verdict, judge, sum_received
from services.replication.wire import read_sums
from tally.contract.errors import InvalidRequest, NotFound, PeerMismatch, TallyError, Violation
from tally.contract.status import error_from_rpc
from tally.replication.v1 import peers_pb2 as pb
from tally.replication.v1.peers_pb2_grpc import PeerServiceStub

_CALL_SECONDS = 10.0
_COMPARE_SECONDS = 300.0

Compared = tuple[uuid.UUID, Verdict, Sums, Sums]
"""A location, how it compares, what is here and what is there."""


class Peering:
    """Makes regions known, and compares with them."""

    def __init__(
        self, pool: Any, device: uuid.UUID, channel: ChannelSettings, configured: Sequence[str]
    ) -> None:
        """`configured`: addresses of regions to follow, by the settings."""
        self._pool = pool
        self._device = device
        self._channel = channel
        self._missing = set(configured)

    async def put_peer(self, address: str, policy: str = "follow") -> Region:
        """Ask an address which region it is, and follow it. Raises Unavailable, InvalidRequest, PeerMismatch."""
        try:
            async with open_channel(address, self._channel) as channel:
                stub = PeerServiceStub(channel)
                answer = await stub.GetRegion(pb.GetRegionRequest(), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        device = uuid.UUID(answer.device_id)
        if device == self._device:
            raise PeerMismatch(
                f"{address} is this region itself, or a copy of it with the same id {device}. A copy needs a new id "
                "(docs/replication.md, copied regions)"
            )
        await put_region(self._pool, device, answer.name, address, policy, answer.epoch)
        return await self.find(device)

    async def put_configured(self) -> float | None:
        """One turn of a loop: follow the regions of the settings, as soon as each answers."""
        for address in sorted(self._missing):
            try:
                await self.put_peer(address)
            except TallyError:
                continue  # it does not answer yet; the next turn asks again
            self._missing.discard(address)
        return None

    async def find(self, device: uuid.UUID) -> Region:
        """A region that is known here. Raises NotFound."""
        for region in await list_regions(self._pool):
            if region.device == device:
                return region
        raise NotFound(f"no region {device} is known here; `tally regions list` shows those that are")

    async def verify(self, device: uuid.UUID, location: uuid.UUID | None) -> list[Compared]:
        """Compare what is here of a region with its owner. Raises NotFound, InvalidRequest, what the owner raises."""
        with reaching_postgres():
            region = await self.find(device)
            if region.is_own:
                raise InvalidRequest([Violation("device_id", "is this region itself; name another one")])
            here = await sum_received(self._pool, device, location)
        request = pb.CompareRequest(
            device_id=str(device), watermark=here.watermark, location_ids=map(str, here.states)
        )
        try:
            async with open_channel(region.address, self._channel) as channel:
                stub = PeerServiceStub(channel)
                answer = await stub.Compare(request, timeout=_COMPARE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        found = []
        for each in answer.locations:
            key = uuid.UUID(each.location_id)
            there = There(read_sums(each.entries), each.changed_count)
            sums = here.sums.get(key, Sums())
            found.append((key, judge(sums, there, here.states[key]), sums, there.sums))
        return found
