"""The questions that a client asks; see tally.client.Client."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from abc import ABC, abstractmethod
from datetime import datetime

from google.protobuf.wrappers_pb2 import StringValue

from tally.client._calls import methods
from tally.client._calls.connection import Connection
from tally.client._checks.times import to_timestamp
from tally.client._checks.wrong_type import refuse_wrong_types
from tally.client.answers import Audit, Cluster, Count, Log, PartitionMap, Stats
from tally.client.events import Function
from tally.common.v1 import common_pb2
from tally.contract.errors import NotFound
from tally.contract.rules import VIEW
from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2
from tally.query.v1 import query_pb2

AUDIT_TIMEOUT_S = 60.0
_HEALTH = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Reading(ABC):
    """The half of a client that changes nothing."""

    @property
    @abstractmethod
    def _open(self) -> Connection:
        """The connection; raises ClientUnusable when there is none."""

    # Reading

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
        answer = await self._open.call(methods.GET_VIEWS_COUNT, request, timeout)
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
        answer = await self._open.call(methods.GET_COUNT, request, timeout)
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
        answer = await self._open.call(methods.GET_STATS, request, timeout)
        return Stats.from_message(answer)

    # Operating

    async def partition_map(self, *, timeout: float | None = None) -> PartitionMap:
        """Which shard leads which partitions, as the partitioner that answers sees it."""
        answer = await self._open.call(
            methods.GET_PARTITION_MAP,
            ingest_pb2.GetPartitionMapRequest(),
            timeout,
        )
        return PartitionMap.from_message(answer)

    async def get_cluster(self, *, timeout: float | None = None) -> Cluster:
        """The cluster of the shard that answers. A partitioner tells its own in its partition map."""
        answer = await self._open.call(methods.GET_CLUSTER, counting_pb2.GetClusterRequest(), timeout)
        return Cluster.from_message(answer.cluster)

    async def list_logs(self, *, timeout: float | None = None) -> tuple[Log, ...]:
        """The logs that are not settled, oldest first."""
        answer = await self._open.call(methods.LIST_LOGS, query_pb2.ListLogsRequest(), timeout)
        return tuple(Log.from_message(log) for log in answer.logs)

    async def audit(self, *, timeout: float = AUDIT_TIMEOUT_S) -> Audit:
        """Compare the rollups with the journal. Reads every rollup, hence the longer timeout."""
        answer = await self._open.call(methods.AUDIT, query_pb2.AuditRequest(), timeout)
        return Audit.from_message(answer)

    async def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """SERVING, NOT_SERVING, UNKNOWN, or SERVICE_UNKNOWN; of the whole server if no service is named."""
        try:
            answer = await self._open.call(methods.CHECK_HEALTH, StringValue(value=service), timeout)
        except NotFound:
            return "SERVICE_UNKNOWN"
        return _HEALTH.get(answer.value, "UNKNOWN")


def _consistency(strong: bool) -> common_pb2.Consistency:
    return common_pb2.CONSISTENCY_STRONG if strong else common_pb2.CONSISTENCY_CACHED
