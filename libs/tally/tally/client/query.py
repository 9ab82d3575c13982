"""Counts, statistics, and whether the rollups equal the journal: `client.query`."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from datetime import datetime

from tally.client._calls import methods
from tally.client._calls.namespace import Namespace
from tally.client._checks.times import to_timestamp
from tally.client._checks.wrong_type import refuse_wrong_types
from tally.client.answers import Audit, Count, Grains, Log, Stats
from tally.client.events import Function
from tally.common.v1 import common_pb2
from tally.contract.rules import VIEW
from tally.query.v1 import query_pb2

AUDIT_TIMEOUT_S = 60.0


class Query(Namespace):
    """The part of tally.client.Client that asks the service `query`; the client has these methods itself, too."""

    async def get_views_count(
        self,
        video_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count:
        """The views of a video in [start, end), taken down to whole minutes; see `get_count`."""
        with refuse_wrong_types("request"):
            request = query_pb2.GetViewsCountRequest(
                video_id=video_id,
                start_time=to_timestamp(start, "start"),
                end_time=to_timestamp(end, "end"),
                consistency=_consistency(strong),
            )
        answer = await self._open().call(methods.GET_VIEWS_COUNT, request, timeout)
        return Count.from_message(answer)

    async def get_count(
        self,
        video_id: str,
        event_type: str = VIEW,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count:
        """The events of one type of a video in [start, end), taken down to whole minutes.

        A bound left out is unbounded. `strong`: with every event that was journaled before the call;
        otherwise the answer may lag by a flush, and `as_of` says how far it reaches. A video never seen
        counts 0.
        """
        with refuse_wrong_types("request"):
            request = query_pb2.GetCountRequest(
                video_id=video_id,
                event_type=event_type,
                start_time=to_timestamp(start, "start"),
                end_time=to_timestamp(end, "end"),
                consistency=_consistency(strong),
            )
        answer = await self._open().call(methods.GET_COUNT, request, timeout)
        return Count.from_message(answer)

    async def get_stats(
        self,
        video_id: str,
        event_type: str,
        function: Function | str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        quantile: float | None = None,
        timeout: float | None = None,
    ) -> Stats:
        """One aggregate, for example `"average"`, over the events of one type of a video; see `get_count`.

        `quantile`: from 0 to 1, with the function `quantile` only.
        """
        with refuse_wrong_types("request"):
            request = query_pb2.GetStatsRequest(
                video_id=video_id,
                event_type=event_type,
                function=Function.of(function).proto_name,
                start_time=to_timestamp(start, "start"),
                end_time=to_timestamp(end, "end"),
                consistency=_consistency(strong),
                quantile=quantile,
            )
        answer = await self._open().call(methods.GET_STATS, request, timeout)
        return Stats.from_message(answer)

    async def list_logs(self, *, timeout: float | None = None) -> tuple[Log, ...]:
        """The logs that are not settled, oldest first."""
        answer = await self._open().call(methods.LIST_LOGS, query_pb2.ListLogsRequest(), timeout)
        return tuple(Log.from_message(log) for log in answer.logs)

    async def list_grains(self, *, timeout: float = AUDIT_TIMEOUT_S) -> Grains:
        """What the rollups hold by grain, and how far rolling up is behind. Reads every rollup."""
        answer = await self._open().call(methods.LIST_GRAINS, query_pb2.ListGrainsRequest(), timeout)
        return Grains.from_message(answer)

    async def audit(self, *, timeout: float = AUDIT_TIMEOUT_S) -> Audit:
        """Compare the rollups with the journal. Reads every rollup, hence the longer timeout."""
        answer = await self._open().call(methods.AUDIT, query_pb2.AuditRequest(), timeout)
        return Audit.from_message(answer)


def _consistency(strong: bool) -> common_pb2.Consistency:
    return common_pb2.CONSISTENCY_STRONG if strong else common_pb2.CONSISTENCY_CACHED
