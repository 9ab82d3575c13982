"""Every rpc names the role of its callers."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor

from tally.common.v1 import access_pb2

PROTOS = Path(__file__).parents[3] / "proto"


def list_methods() -> Iterator[MethodDescriptor]:
    for path in sorted(PROTOS.rglob("*.proto")):
        module = ".".join(path.relative_to(PROTOS).with_suffix("").parts) + "_pb2"
        for service in importlib.import_module(module).DESCRIPTOR.services_by_name.values():
            yield from service.methods


def read_role(method: MethodDescriptor) -> int:
    role: int = method.GetOptions().Extensions[access_pb2.role]  # type: ignore[index] # protoc's stub lacks the type
    return role


@pytest.mark.parametrize("method", tuple(list_methods()), ids=lambda method: method.full_name)
def test_every_rpc_has_a_role(method: MethodDescriptor) -> None:
    assert read_role(method) != access_pb2.ROLE_UNSPECIFIED


def test_the_methods_of_every_service_are_found() -> None:
    services = {method.containing_service.full_name for method in list_methods()}
    assert {"tally.ingest.v1.IngestService", "tally.counting.v1.DeadLetterService"} <= services
