"""The rpcs that the client calls: their paths, and the parsers of their answers.

The generated stubs have no types and demand their own version of grpcio; a path and two message types do not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from tally.counting.v1 import counting_pb2
from tally.ingest.v1 import ingest_pb2
from tally.query.v1 import query_pb2

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Answer]):
    """One rpc: its path, and the types that go and come."""

    path: str
    request: type[Request]
    parse: Callable[[bytes], Answer]


_INGEST = "/tally.ingest.v1.IngestService"
COUNT_EVENT = Method(
    f"{_INGEST}/CountEvent", ingest_pb2.CountEventRequest, ingest_pb2.CountEventResponse.FromString
)
PROCESS_EVENT = Method(
    f"{_INGEST}/ProcessEvent", ingest_pb2.ProcessEventRequest, ingest_pb2.ProcessEventResponse.FromString
)
PROCESS_EVENTS = Method(
    f"{_INGEST}/ProcessEvents", ingest_pb2.ProcessEventsRequest, ingest_pb2.ProcessEventsResponse.FromString
)
STREAM_EVENTS = Method(
    f"{_INGEST}/StreamEvents", ingest_pb2.StreamEventsRequest, ingest_pb2.StreamEventsResponse.FromString
)
GET_PARTITION_MAP = Method(
    f"{_INGEST}/GetPartitionMap",
    ingest_pb2.GetPartitionMapRequest,
    ingest_pb2.GetPartitionMapResponse.FromString,
)

APPEND = Method(
    "/tally.counting.v1.CountingService/Append",
    counting_pb2.AppendRequest,
    counting_pb2.AppendResponse.FromString,
)

GET_CLUSTER = Method(
    "/tally.counting.v1.CountingService/GetCluster",
    counting_pb2.GetClusterRequest,
    counting_pb2.GetClusterResponse.FromString,
)

_QUERY = "/tally.query.v1.QueryService"
GET_VIEWS_COUNT = Method(
    f"{_QUERY}/GetViewsCount", query_pb2.GetViewsCountRequest, query_pb2.GetViewsCountResponse.FromString
)
GET_COUNT = Method(f"{_QUERY}/GetCount", query_pb2.GetCountRequest, query_pb2.GetCountResponse.FromString)
GET_STATS = Method(f"{_QUERY}/GetStats", query_pb2.GetStatsRequest, query_pb2.GetStatsResponse.FromString)
LIST_LOGS = Method(f"{_QUERY}/ListLogs", query_pb2.ListLogsRequest, query_pb2.ListLogsResponse.FromString)
LIST_GRAINS = Method(
    f"{_QUERY}/ListGrains", query_pb2.ListGrainsRequest, query_pb2.ListGrainsResponse.FromString
)
AUDIT = Method(f"{_QUERY}/Audit", query_pb2.AuditRequest, query_pb2.AuditResponse.FromString)

# The messages of the health protocol have one field each, a string and an enum, both numbered 1: on the wire
# they are these wrappers, and a user has one package less to install.
CHECK_HEALTH = Method("/grpc.health.v1.Health/Check", StringValue, Int32Value.FromString)
