"""Internal calls reach the cluster that they are meant for, or none."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from services.cli.counting.dead_letters import open_letters
from services.cli.terminal.failure import Failure
from tally.client import Client, Cluster, ClusterMismatch, Event, OutcomeUnknown
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.status import read_details
from tally.counting.v1 import counting_pb2, dead_letters_pb2
from tally.ingest.v1.ingest_pb2 import GetPartitionMapResponse, ShardPartitions
from tests.integration.tally.peer import open_peer
from tests.support.entries import ask_identity, cut_request
from tests.support.eventually import eventually
from tests.support.letters import bury_spooled, old_id, waiting
from tests.support.peer import refuse
from tests.support.processes import run_service
from tests.support.proof import assert_exact
from tests.support.servers import Servers, fresh_database
from tests.support.stack import Stack, open_stack
from tests.support.terminal import run

COUNTS = {("video", "view"): 3}
INTERNAL = [
    method
    for file in (counting_pb2, dead_letters_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name != "GetCluster"
]


@pytest.fixture
async def other_dsn(servers: Servers, template: str) -> AsyncIterator[str]:
    """The database of another cluster. A copy has the id of what it was copied from."""
    async with fresh_database(servers.postgres_dsn, template) as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute("update public.cluster set cluster_id = gen_random_uuid()")
        await connection.close()
        yield dsn


def test_the_internal_calls_are_those_that_this_file_knows() -> None:
    assert [method.name for method in INTERNAL] == [
        *("Append", "ListDeadLetters", "GetDeadLetter", "ReplayDeadLetter", "DropDeadLetter")
    ]


async def test_every_internal_call_without_the_identity_of_the_cluster_is_refused_and_does_nothing(
    stack: Stack,
) -> None:
    connection = await asyncpg.connect(stack.dsn)
    [key] = await bury_spooled(connection, {("video", "view"): 1}, await old_id(connection))
    async with grpc.aio.insecure_channel(stack.address) as channel:
        own = await ask_identity(channel)
        for change in (
            None,
            {"cluster_id": "01890a5d-ac96-774b-bcce-b302099a8057"},
            {"epoch": own.epoch + 1},
            {"partition_count": 64},
        ):
            sent = ClusterIdentity()
            if change is not None:
                sent.CopyFrom(own)
                sent.MergeFrom(ClusterIdentity(**change))
            for method in INTERNAL:
                request: Any = GetMessageClass(method.input_type)()
                if change is not None:
                    request.cluster.CopyFrom(sent)
                if method.name == "Append":
                    request.entries.extend(cut_request(COUNTS))
                elif method.name != "ListDeadLetters":
                    request.id = str(key)
                call: Any = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(request.SerializeToString(), timeout=10)
                assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION, method.name
                info = read_details(refused.value)
                assert info.reason == "CLUSTER_MISMATCH"
                for named in (info.metadata["sent"], info.metadata["own"]):
                    assert named in (refused.value.details() or "")
    assert await waiting(connection) == [key]
    await connection.close()
    await assert_exact(stack.dsn, {})


async def test_a_shard_of_another_cluster_in_the_list_gets_nothing(
    dsn: str, other_dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with (
        open_stack(dsn, valkey_url, tmp_path / "a", names=("counting",)) as ours,
        open_stack(other_dsn, valkey_url, tmp_path / "b", names=("counting",)) as theirs,
        open_stack(
            dsn,
            valkey_url,
            tmp_path / "p",
            names=("partitioner", "query"),
            overrides={"partitioner": {"shards": (theirs.address, ours.address)}},
        ) as front,
    ):

        async def is_placed() -> bool:
            shards = (await front.client.partition_map()).shards
            return [shard.address for shard in shards] == [ours.address]

        for n in range(40):
            await front.client.count(f"video {n}")
        await eventually(is_placed)
        await assert_exact(dsn, {(f"video {n}", "view"): 1 for n in range(40)})
        await assert_exact(other_dsn, {})


async def test_a_shard_of_another_cluster_that_takes_the_place_of_one_counts_nothing_and_the_log_says_why(
    dsn: str, other_dsn: str, valkey_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_id, other_id = await cluster_id_of(dsn), await cluster_id_of(other_dsn)
    async with run_service("counting", dsn, valkey_url, tmp_path) as ours:
        overrides = {"partitioner": {"shards": (ours.address,)}}
        async with open_stack(
            dsn, valkey_url, tmp_path, names=("partitioner",), overrides=overrides
        ) as front:
            await front.client.count("video")
            ours.kill()
            async with run_service("counting", other_dsn, valkey_url, tmp_path, address=ours.address):
                with pytest.raises(OutcomeUnknown):
                    await front.client.process_many([Event("video")], timeout=1.0)
                told: list[str] = []

                async def is_told() -> bool:
                    told.append(capsys.readouterr().out)
                    return f"it belongs to cluster {other_id} " in "".join(told)

                await eventually(is_told)
    assert f"this partitioner to cluster {own_id} " in "".join(told)
    await assert_exact(other_dsn, {})


async def test_an_operator_is_told_of_a_shard_that_belongs_to_another_cluster_than_its_partitioner(
    stack: Stack,
) -> None:
    async with grpc.aio.insecure_channel(stack.address) as channel:
        identity = await ask_identity(channel)
    own = Cluster.from_message(identity)
    identity.epoch += 1
    other = Cluster.from_message(identity)
    async with open_peer() as partitioner:
        partitioner.answers["GetPartitionMap"] = GetPartitionMapResponse(
            partition_count=4,
            shards=[ShardPartitions(address=stack.address, partitions=range(4))],
            cluster=identity,
        )
        async with Client(partitioner.address) as client:
            partitioner.turns.append(refuse(grpc.StatusCode.NOT_FOUND))  # it has no dead letters itself
            with pytest.raises(Failure) as caught:
                async with open_letters(client):
                    pass
        status = await run("status", "--json", address=partitioner.address)
    assert f"belongs to {own}, and the partitioner to {other}" in caught.value.message
    assert f"shard {stack.address} belongs to {own}, and the partitioner to {other}" in status.err


async def test_a_client_asks_for_the_cluster_again_after_a_call_was_refused(stack: Stack) -> None:
    await stack.client.list_dead_letters()
    connection = await asyncpg.connect(stack.dsn)
    [key] = await bury_spooled(connection, {("video", "view"): 1}, await old_id(connection))
    await connection.close()
    async with grpc.aio.insecure_channel(stack.address) as channel:
        own = Cluster.from_message(await ask_identity(channel))
    stack.client._letters_of = replace(own, epoch=own.epoch + 1)
    with pytest.raises(ClusterMismatch):
        await stack.client.drop_dead_letter(str(key))
    assert (await stack.client.drop_dead_letter(str(key))).letter.state == "dropped"


async def cluster_id_of(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    found = await connection.fetchval("select cluster_id::text from public.cluster")
    await connection.close()
    return str(found)
