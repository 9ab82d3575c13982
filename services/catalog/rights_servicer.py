"""RightsService: protobuf ↔ rules and dimensions."""

from collections.abc import Mapping
from typing import Any

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.catalog.enforcement import until_in_force
from services.catalog.rule_record import list_subjects, put_rules, read_rules
from services.catalog.rule_wire import message_of_rule, read_rules_of
from services.catalog.type_record import put_dimension, read_dimensions
from services.catalog.writing import Writing
from tally.catalog.v1 import rights_pb2 as pb
from tally.catalog.v1.rights_pb2_grpc import RightsServiceServicer
from tally.contract.errors import InvalidRequest, Violation

_SUBJECTS = 1_000
_KINDS: Mapping[int, str] = {
    pb.DIMENSION_KIND_APPLICATION: "application",
    pb.DIMENSION_KIND_PLATFORM: "platform",
}


class RightsServicer(RightsServiceServicer):
    """Serves the rules."""

    def __init__(self, pool: Any, writing: Writing, *, default_allow: bool) -> None:
        self._pool = pool
        self._writing = writing
        self._default_allow = default_allow

    async def PutRules(self, request: pb.PutRulesRequest, context: ServicerContext) -> pb.PutRulesResponse:
        rules = read_rules_of(request.rules)
        stored = await put_rules(self._writing, request.subject, rules)
        confirmed, stale = await until_in_force(self._pool, stored.change)
        return pb.PutRulesResponse(
            change=stored.change, confirmed_replicas=confirmed, stale_replicas=stale, changed=stored.changed
        )

    async def ListRules(self, request: pb.ListRulesRequest, context: ServicerContext) -> pb.ListRulesResponse:
        with reaching_postgres():
            subjects = await list_subjects(self._pool, request.subject, request.after, _SUBJECTS + 1)
            rules = await read_rules(self._pool, [subject for subject, _ in subjects[:_SUBJECTS]])
        return pb.ListRulesResponse(
            subjects=[
                pb.SubjectRules(
                    subject=subject, change=change, rules=map(message_of_rule, rules.get(subject, ()))
                )
                for subject, change in subjects[:_SUBJECTS]
            ],
            has_more=len(subjects) > _SUBJECTS,
            default_allow=self._default_allow,
        )

    async def PutDimension(
        self, request: pb.PutDimensionRequest, context: ServicerContext
    ) -> pb.PutDimensionResponse:
        kind = _KINDS.get(request.dimension.kind)
        if kind is None:
            raise InvalidRequest(
                [Violation("dimension.kind", f"must be one of {', '.join(_KINDS.values())}")]
            )
        change = await put_dimension(self._writing, kind, sorted(set(request.dimension.codes)))
        await until_in_force(self._pool, change)
        return pb.PutDimensionResponse(change=change)

    async def ListDimensions(
        self, request: pb.ListDimensionsRequest, context: ServicerContext
    ) -> pb.ListDimensionsResponse:
        with reaching_postgres():
            found = await read_dimensions(self._pool)
        codes = {"application": found.applications, "platform": found.platforms}
        return pb.ListDimensionsResponse(
            dimensions=[
                pb.Dimension(kind=pb.DimensionKind.Name(kind), codes=sorted(codes[name]))
                for kind, name in _KINDS.items()
                if codes[name]
            ]
        )
