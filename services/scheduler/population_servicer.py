"""PopulationService: protobuf ↔ members."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from libs.rpc.paging import read_size, write_token
from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.scheduler.listing import Listing, count_by_bin
from services.scheduler.members import Key
from services.scheduler.membership import CHANNELS, REPOS, VIDEOS, Incoming, Put, put_members
from services.scheduler.population_wire import (
    filters_of,
    read_after,
    read_repos,
    read_rows,
    read_selection,
)
from services.scheduler.populations import POPULATIONS
from services.scheduler.timekeeper import Timekeeper
from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import population_pb2 as pb
from tally.scheduler.v1.population_pb2_grpc import PopulationServiceServicer

_OON_VIDEOS = Listing(POPULATIONS["youtube_video"], {"is_oon": True})
_LINKED_CHANNELS = Listing(POPULATIONS["youtube_channel"], {"has_label_association": True})
_PAGE, _LARGEST_PAGE = 1_000, 10_000


class PopulationServicer(PopulationServiceServicer):
    """Serves the populations."""

    def __init__(self, pool: Any, timekeeper: Timekeeper, bin_space: int) -> None:
        self._pool = pool
        self._timekeeper = timekeeper
        self._bin_space = bin_space

    async def PutVideos(
        self, requests: AsyncIterator[pb.PutVideosRequest], context: ServicerContext
    ) -> pb.PutVideosResponse:
        total = Put(0, 0, 0)
        async for request in requests:
            total = _sum(total, await self._put(VIDEOS, request.videos, "videos"))
        return pb.PutVideosResponse(**_counts(total))

    async def PutChannels(
        self, requests: AsyncIterator[pb.PutChannelsRequest], context: ServicerContext
    ) -> pb.PutChannelsResponse:
        total = Put(0, 0, 0)
        async for request in requests:
            total = _sum(total, await self._put(CHANNELS, request.channels, "channels"))
        return pb.PutChannelsResponse(**_counts(total))

    async def PutRepos(
        self, requests: AsyncIterator[pb.PutReposRequest], context: ServicerContext
    ) -> pb.PutReposResponse:
        total = Put(0, 0, 0)
        async for request in requests:
            rows = read_repos(request.repos)
            total = _sum(total, await put_members(self._pool, REPOS, rows, self._timekeeper.now()))
        return pb.PutReposResponse(**_counts(total))

    async def ListOonVideoIds(
        self, request: pb.ListOonVideoIdsRequest, context: ServicerContext
    ) -> pb.ListOonVideoIdsResponse:
        keys, token = await self._page(_OON_VIDEOS, request)
        return pb.ListOonVideoIdsResponse(youtube_ids=[key.youtube_id for key in keys], next_page_token=token)

    async def ListLinkedChannelIds(
        self, request: pb.ListLinkedChannelIdsRequest, context: ServicerContext
    ) -> pb.ListLinkedChannelIdsResponse:
        keys, token = await self._page(_LINKED_CHANNELS, request)
        return pb.ListLinkedChannelIdsResponse(
            youtube_ids=[key.youtube_id for key in keys], next_page_token=token
        )

    async def GetBinDistribution(
        self, request: pb.GetBinDistributionRequest, context: ServicerContext
    ) -> pb.GetBinDistributionResponse:
        if request.population not in POPULATIONS:
            raise InvalidRequest([Violation("population", f"must be one of {', '.join(POPULATIONS)}")])
        if not 1 <= request.bin_max <= self._bin_space:
            raise InvalidRequest([Violation("bin_max", f"must be from 1 to {self._bin_space}")])
        with reaching_postgres():
            counts = await count_by_bin(self._pool, request.population, request.bin_max)
        return pb.GetBinDistributionResponse(member_counts=counts)

    async def _put(self, incoming: Incoming, messages: Sequence[Any], field: str) -> Put:
        rows = read_rows(messages, field, list(incoming.columns))
        return await put_members(self._pool, incoming, rows, self._timekeeper.now())

    async def _page(
        self, listing: Listing, request: pb.ListOonVideoIdsRequest | pb.ListLinkedChannelIdsRequest
    ) -> tuple[Sequence[Key], str]:
        selection = read_selection(request.selection)
        size = read_size(request.page_size, _PAGE, _LARGEST_PAGE)
        after = read_after(request.page_token, selection)
        with reaching_postgres():
            keys = await listing.page(self._pool, selection, self._bin_space, after, size + 1)
        token = write_token(str(keys[size - 1]), filters_of(selection)) if len(keys) > size else ""
        return keys[:size], token


def _sum(one: Put, other: Put) -> Put:
    return Put(*(a + b for a, b in zip(one, other, strict=True)))


def _counts(put: Put) -> dict[str, int]:
    return {
        "inserted_count": put.inserted,
        "updated_count": put.updated,
        "unchanged_count": put.unchanged,
    }
