from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value

from tally.client import (
    Audit,
    Client,
    Count,
    DeadlineExceeded,
    Function,
    Grain,
    Grains,
    InvalidRequest,
    Log,
    PartitionMap,
    ServerFault,
    ShardPartitions,
    Stats,
    Unavailable,
    Unimplemented,
)
from tally.common.v1 import common_pb2
from tally.ingest.v1 import ingest_pb2
from tally.query.v1 import query_pb2
from tests.integration.tally.peer import Peer, error_info
from tests.support.peer import never_answer, refuse

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
AS_OF = Timestamp(seconds=int(NOON.timestamp()), nanos=5_000)
AS_OF_TIME = NOON + timedelta(microseconds=5)


async def test_a_count_of_a_range_is_asked_for_and_read(client: Client, peer: Peer) -> None:
    peer.answers["GetCount"] = query_pb2.GetCountResponse(count=2**40, as_of=AS_OF)
    count = await client.get_count("v", "like", start=NOON, end=NOON + timedelta(hours=1), strong=True)
    assert count == Count(2**40, AS_OF_TIME)
    assert query_pb2.GetCountRequest.FromString(peer.received[0].payload) == query_pb2.GetCountRequest(
        video_id="v",
        event_type="like",
        start_time=Timestamp(seconds=int(NOON.timestamp())),
        end_time=Timestamp(seconds=int(NOON.timestamp()) + 3_600),
        consistency=common_pb2.CONSISTENCY_STRONG,
    )


async def test_a_bound_left_out_is_not_sent(client: Client, peer: Peer) -> None:
    peer.answers["GetViewsCount"] = query_pb2.GetViewsCountResponse(count=7, as_of=AS_OF)
    assert await client.get_views_count("v") == Count(7, AS_OF_TIME)
    sent = query_pb2.GetViewsCountRequest.FromString(peer.received[0].payload)
    assert sent == query_pb2.GetViewsCountRequest(video_id="v", consistency=common_pb2.CONSISTENCY_CACHED)


@pytest.mark.parametrize("function", list(Function))
async def test_every_aggregate_can_be_asked_for_by_name(
    client: Client, peer: Peer, function: Function
) -> None:
    peer.answers["GetStats"] = query_pb2.GetStatsResponse(value=0.0, count=3, as_of=AS_OF)
    assert await client.get_stats("v", "seconds_watched", function.value) == Stats(0.0, 3, AS_OF_TIME)
    sent = query_pb2.GetStatsRequest.FromString(peer.received[0].payload)
    assert common_pb2.Function.Name(sent.function) == f"FUNCTION_{function.name}"
    assert not sent.HasField("quantile")


async def test_a_quantile_of_zero_is_sent_and_an_absent_value_is_none(client: Client, peer: Peer) -> None:
    peer.answers["GetStats"] = query_pb2.GetStatsResponse(as_of=AS_OF)
    stats = await client.get_stats("v", "view", Function.QUANTILE, quantile=0.0)
    assert stats == Stats(None, 0, AS_OF_TIME)
    sent = query_pb2.GetStatsRequest.FromString(peer.received[0].payload)
    assert sent.HasField("quantile")
    assert sent.quantile == 0


async def test_a_naive_bound_is_refused_by_name(client: Client, peer: Peer) -> None:
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - a naive time is the point
    with pytest.raises(InvalidRequest, match=r"^end: 2026-01-02T00:00:00 has no time zone"):
        await client.get_count("v", end=naive)
    assert not peer.received


async def test_the_partition_map_is_read(client: Client, peer: Peer) -> None:
    peer.answers["GetPartitionMap"] = ingest_pb2.GetPartitionMapResponse(
        partition_count=4,
        version="7",
        shards=[ingest_pb2.ShardPartitions(address="127.0.0.1:1", partitions=[0, 2])],
    )
    assert await client.partition_map() == PartitionMap(4, "7", (ShardPartitions("127.0.0.1:1", (0, 2)),))


async def test_the_logs_are_read(client: Client, peer: Peer) -> None:
    log = query_pb2.Log(
        log_id=2**62,
        shard="counting-0",
        state="open",
        open_time=AS_OF,
        applied_seq=3,
        last_seq=5,
        lag_seconds=0.5,
    )
    peer.answers["ListLogs"] = query_pb2.ListLogsResponse(logs=[log])
    assert await client.list_logs() == (Log(2**62, "counting-0", "open", AS_OF_TIME, 3, 5, 0.5),)


async def test_the_grains_are_read(client: Client, peer: Peer) -> None:
    hour = query_pb2.Grain(
        name="hour", generation_count=2, run_count=3, cell_count=4, event_count=5, byte_count=6
    )
    peer.answers["ListGrains"] = query_pb2.ListGrainsResponse(
        grains=[hour], unrolled_generation_count=1, unrolled_seconds=0.5
    )
    assert await client.list_grains() == Grains((Grain("hour", 2, 3, 4, 5, 6),), 1, 0.5)


async def test_the_audit_is_read(client: Client, peer: Peer) -> None:
    peer.answers["Audit"] = query_pb2.AuditResponse(
        journaled_events=10, counted_events=8, dead_events=1, discrepancy_events=-1, replayed_events=7
    )
    assert await client.audit() == Audit(10, 8, 1, -1, replayed_events=7)


async def test_health_is_told_by_the_names_of_the_protocol(client: Client, peer: Peer) -> None:
    peer.answers["Check"] = Int32Value(value=1)
    assert await client.health("tally.ingest.v1.IngestService") == "SERVING"
    assert peer.received[0].payload == b"\x0a\x1dtally.ingest.v1.IngestService"
    peer.answers["Check"] = Int32Value(value=2)
    assert await client.health() == "NOT_SERVING"
    peer.turns.append(refuse(grpc.StatusCode.NOT_FOUND, "unknown service"))
    assert await client.health("nothing") == "SERVICE_UNKNOWN"


async def test_a_read_without_an_answer_in_time_has_no_outcome_to_doubt(client: Client, peer: Peer) -> None:
    peer.turns.append(never_answer)
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.[45]\d* s") as raised:
        await client.get_count("v", timeout=0.5)
    assert raised.value.request_id is None


@pytest.mark.parametrize("open_client", [Client], ids=["asyncio"])  # gRPC repeats it for a second
async def test_a_service_that_is_away_is_named(client: Client, peer: Peer) -> None:
    peer.turns.extend([refuse(grpc.StatusCode.UNAVAILABLE, "Connection refused")] * 4)
    with pytest.raises(
        Unavailable, match=rf"^{peer.address} cannot be reached \(Connection refused\)"
    ) as raised:
        await client.get_count("v")
    assert raised.value.unreachable == peer.address


@pytest.mark.parametrize("open_client", [Client], ids=["asyncio"])  # gRPC repeats it for a second
async def test_what_the_service_says_itself_is_not_explained_away(client: Client, peer: Peer) -> None:
    peer.turns.extend(
        [refuse(grpc.StatusCode.UNAVAILABLE, "Postgres is unreachable", error_info("UNAVAILABLE"))] * 4
    )
    with pytest.raises(Unavailable, match=r"^Postgres is unreachable$") as raised:
        await client.get_count("v")
    assert raised.value.unreachable is None


async def test_what_is_not_there_yet_and_what_broke_have_errors_of_their_own(
    client: Client, peer: Peer
) -> None:
    peer.turns.append(refuse(grpc.StatusCode.UNIMPLEMENTED, "not yet", error_info("UNIMPLEMENTED")))
    with pytest.raises(Unimplemented, match="not yet"):
        await client.get_stats("v", "view", "distinct")
    peer.turns.append(refuse(grpc.StatusCode.INTERNAL, "it broke", error_info("INTERNAL")))
    with pytest.raises(ServerFault, match="it broke"):
        await client.get_count("v")
