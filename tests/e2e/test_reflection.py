"""A client that knows an address and nothing else: no generated code of ours, only what the server says of itself."""

import asyncio
import uuid
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,  # the package ships no types
)

from tests.support.reach import open_blocking_channel
from tests.support.stack import Stack

TIMEOUT_S = 20


class Discovered:
    """The services behind an address, as reflection describes them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def call(self, service: str, method: str, /, **fields: Any) -> Any:
        """Call a unary method with a message that is made of what was discovered."""
        found = self._pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(found.input_type)(**fields)
        response = message_factory.GetMessageClass(found.output_type)
        call: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=TIMEOUT_S)


def count_and_read(address: str) -> None:
    with open_blocking_channel(address) as channel:
        discovered = Discovered(channel)
        assert discovered.services() >= {
            "tally.ingest.v1.IngestService",
            "tally.query.v1.QueryService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        for n in range(1, 3):
            counted = discovered.call(
                "tally.ingest.v1.IngestService", "CountEvent", video_id="MBdVXkSdhwU", event_type="like"
            )
            assert counted.receipt.accepted_count == 1
            assert uuid.UUID(counted.receipt.request_id).version == 7
            read = discovered.call(
                "tally.query.v1.QueryService",
                "GetCount",
                video_id="MBdVXkSdhwU",
                event_type="like",
                consistency="CONSISTENCY_STRONG",
            )
            assert read.count == n
        healthy = discovered.call("grpc.health.v1.Health", "Check", service="tally.ingest.v1.IngestService")
        assert healthy.status == 1  # SERVING


async def test_a_client_that_knows_only_the_address_counts_and_reads(stack: Stack) -> None:
    await asyncio.to_thread(count_and_read, stack.address)
