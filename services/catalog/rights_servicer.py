"""RightsService: protobuf ↔ rules and dimensions."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.catalog.enforcement import until_in_force
from services.catalog.explanation import explain
from services.catalog.explanation_wire import write_explanation, write_trial
from services.catalog.find_wire import read_explain
from services.catalog.finding import check_query, find_lists
from services.catalog.follower import Follower
from services.catalog.list_reading import ListReader
from services.catalog.reindexing import check_settled
from services.catalog.rule_record import list_subjects, put_rules, read_rules
from services.catalog.rule_wire import check_subjects, message_of_rule, read_rules_of, read_subjects
from services.catalog.type_record import put_dimension, read_dimensions
from services.catalog.writing import Writing
from tally.catalog.v1 import rights_pb2 as pb
from tally.catalog.v1.rights_pb2_grpc import RightsServiceServicer
from tally.contract.errors import InvalidRequest, NotFound, Violation

_LOGGER = structlog.get_logger(__name__)

_SUBJECTS = 1_000
_KINDS: Mapping[int, str] = {
    pb.DIMENSION_KIND_APPLICATION: "application",
    pb.DIMENSION_KIND_PLATFORM: "platform",
}


class RightsServicer(RightsServiceServicer):
    """Serves the rules."""

    def __init__(
        self,
        pool: Any,
        writing: Writing,
        follower: Follower,
        lists: ListReader,
        *,
        default_allow: bool,
        may_look_past: bool,
    ) -> None:
        self._pool = pool
        self._writing = writing
        self._follower = follower
        self._lists = lists
        self._may_look_past = may_look_past
        self._default_allow = default_allow

    async def PutRules(self, request: pb.PutRulesRequest, context: ServicerContext) -> pb.PutRulesResponse:
        rules = read_rules_of(request.rules)
        stored = await put_rules(self._writing, request.subject, rules)
        confirmed, stale = await until_in_force(self._pool, stored.change)
        return pb.PutRulesResponse(
            change=stored.change, confirmed_replicas=confirmed, stale_replicas=stale, changed=stored.changed
        )

    async def TryRules(self, request: pb.TryRulesRequest, context: ServicerContext) -> pb.TryRulesResponse:
        subjects = read_subjects(request.subjects)
        check_subjects(self._follower.view, subjects)
        with reaching_postgres():
            await check_settled(self._pool, [subject for subject, rules in subjects.items() if rules])
        now_us = self._follower.freshness.present()[0]
        view, trial = await self._follower.try_rules(subjects)
        differences = await trial.compare(now_us)
        return await asyncio.to_thread(write_trial, view, trial, differences, subjects, now_us)

    async def Explain(self, request: pb.ExplainRequest, context: ServicerContext) -> pb.ExplainResponse:
        query = read_explain(request, may_look_past=self._may_look_past)
        _LOGGER.info("explained", id=request.id, viewer=query.viewer, at_us=query.at_us)
        view = self._follower.view
        check_query(view, query, ())
        present = self._follower.freshness.present()
        window = present if query.at_us is None else (query.at_us, query.at_us)
        ordinal = view.find(request.id)
        if ordinal is None:
            raise NotFound(f"there is no resource {request.id} in the view of change {view.change}")
        lists = await self._lists.read(find_lists(view, query), 0)
        found = await asyncio.to_thread(explain, view, ordinal, query, window, lists)
        return write_explanation(found, view.change, window[0])

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
