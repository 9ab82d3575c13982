"""The rpcs of one user of the catalog, each attempt reported to locust."""

from collections.abc import Sequence
from typing import Any

from loadtests.rpcs import Calls, Report
from tally.catalog.v1 import (
    find_pb2,
    find_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)

APPLICATION = "load"
PLATFORM = "load"


class CatalogRpcs(Calls):
    """Blocking calls for one greenlet. Each raises grpc.RpcError when its last attempt failed."""

    def __init__(self, address: str, report: Report) -> None:
        super().__init__(address, report)
        self._find = find_pb2_grpc.FindServiceStub(self.channel)
        self._resource = resource_pb2_grpc.ResourceServiceStub(self.channel)
        self._rights = rights_pb2_grpc.RightsServiceStub(self.channel)

    def prepare(self, type_: resource_pb2.Type) -> None:
        """Store the type, and register the codes beside those that there are."""
        request = resource_pb2.PutTypeRequest(type=type_)
        self.call("PutType", self._resource.PutType, request)
        found = self.call("ListDimensions", self._rights.ListDimensions, rights_pb2.ListDimensionsRequest())
        known = {each.kind: set(each.codes) for each in found.dimensions}
        for kind, code in (
            (rights_pb2.DIMENSION_KIND_APPLICATION, APPLICATION),
            (rights_pb2.DIMENSION_KIND_PLATFORM, PLATFORM),
        ):
            codes = sorted(known.get(kind, set()) | {code})
            put = rights_pb2.PutDimensionRequest(dimension=rights_pb2.Dimension(kind=kind, codes=codes))
            self.call("PutDimension", self._rights.PutDimension, put)

    def find(self, request: find_pb2.FindRequest) -> find_pb2.FindResponse:
        answer: find_pb2.FindResponse = self.call("Find", self._find.Find, request)
        return answer

    def put(self, puts: Sequence[resource_pb2.ResourcePut]) -> int:
        """Store a batch; its change."""

        def send(request: Any, timeout: float) -> Any:
            return next(self._resource.PutResources(iter([request]), timeout=timeout))

        answer = self.call("PutResources", send, resource_pb2.PutResourcesRequest(puts=puts))
        return int(answer.change)

    def put_rules(self, subject: str, rules: Sequence[rights_pb2.Rule]) -> None:
        request = rights_pb2.PutRulesRequest(subject=subject, rules=rules)
        self.call("PutRules", self._rights.PutRules, request)
