"""QueryService: protobuf ↔ readings."""

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain.cells import check_told_by_cells
from libs.domain.clock import Clock
from libs.domain.grains import Grain
from libs.domain.minutes import MinuteRange, range_of
from libs.rpc.types import ServicerContext
from services.query.lane import Lane, caller_of
from services.query.proof import audit, list_grains, list_logs
from services.query.question import Question
from services.query.reader import Reader
from services.query.regions import Part, World
from services.query.server import Server
from services.query.warm import Reading
from tally.common.v1.common_pb2 import CONSISTENCY_CACHED, CONSISTENCY_STRONG, Consistency
from tally.contract import rules
from tally.contract.errors import InvalidRequest, Violation
from tally.contract.function import Function
from tally.contract.rules import VIEW
from tally.query.v1 import query_pb2 as pb
from tally.query.v1.query_pb2_grpc import QueryServiceServicer


class QueryServicer(QueryServiceServicer):
    """Serves reads."""

    def __init__(self, reader: Reader, server: Server, audits: Lane, clock: Clock) -> None:
        self._clock = clock
        self._reader = reader
        self._server = server
        self._audits = audits

    async def GetViewsCount(
        self, request: pb.GetViewsCountRequest, context: ServicerContext
    ) -> pb.GetViewsCountResponse:
        reading, world = await self._read(request, VIEW, context)
        return pb.GetViewsCountResponse(
            count=reading.cell.count,
            as_of=_timestamp(reading.as_of_us),
            regions=_write_parts(world, Function.COUNT),
            is_incomplete=world is not None and world.is_incomplete,
        )

    async def GetCount(self, request: pb.GetCountRequest, context: ServicerContext) -> pb.GetCountResponse:
        reading, world = await self._read(request, request.event_type, context)
        return pb.GetCountResponse(
            count=reading.cell.count,
            as_of=_timestamp(reading.as_of_us),
            regions=_write_parts(world, Function.COUNT),
            is_incomplete=world is not None and world.is_incomplete,
        )

    async def GetStats(self, request: pb.GetStatsRequest, context: ServicerContext) -> pb.GetStatsResponse:
        reading, world = await self._read(request, request.event_type, context)
        function = Function(request.function) or Function.COUNT
        return pb.GetStatsResponse(
            value=reading.cell.evaluate(function),
            as_of=_timestamp(reading.as_of_us),
            count=_count_of(reading, function),
            regions=_write_parts(world, function),
            is_incomplete=world is not None and world.is_incomplete,
        )

    async def ListLogs(self, request: pb.ListLogsRequest, context: ServicerContext) -> pb.ListLogsResponse:
        logs = [
            pb.Log(
                log_id=row["log_id"],
                shard=row["shard"],
                state=row["state"],
                open_time=row["opened_at"],
                applied_seq=row["applied_seq"],
                last_seq=row["last_seq"],
                lag_seconds=row["lag_seconds"],
            )
            for row in await list_logs(self._server.pool, self._server.unsettled)
        ]
        return pb.ListLogsResponse(logs=logs)

    async def ListGrains(
        self, request: pb.ListGrainsRequest, context: ServicerContext
    ) -> pb.ListGrainsResponse:
        async with self._audits.connection_for(caller_of(context.peer())) as connection:
            grains, unrolled = await list_grains(connection)
        return pb.ListGrainsResponse(
            grains=[
                pb.Grain(
                    name=Grain(row["grain"]).name.lower(),
                    generation_count=row["generations"],
                    run_count=row["runs"],
                    cell_count=row["cells"],
                    event_count=row["events"],
                    byte_count=row["bytes"],
                )
                for row in grains
            ],
            unrolled_generation_count=unrolled["generations"],
            unrolled_seconds=unrolled["seconds"],
        )

    async def Audit(self, request: pb.AuditRequest, context: ServicerContext) -> pb.AuditResponse:
        async with self._audits.connection_for(caller_of(context.peer())) as connection:
            found = dict(await audit(connection))
        grain_discrepancy = found.pop("grain_discrepancy_events")
        expected = found["journaled_events"] - found["dead_events"] + found["replayed_events"]
        discrepancy = found["counted_events"] - expected
        return pb.AuditResponse(**found, discrepancy_events=discrepancy or grain_discrepancy)

    async def _read(
        self,
        request: pb.GetViewsCountRequest | pb.GetCountRequest | pb.GetStatsRequest,
        event_type: str,
        context: ServicerContext,
    ) -> tuple[Reading, World | None]:
        minutes = _checked_range(request, event_type)
        if isinstance(request, pb.GetStatsRequest):
            check_told_by_cells(Function(request.function))
        is_strong = request.consistency == CONSISTENCY_STRONG
        question = Question(request.video_id, event_type, minutes)
        caller = caller_of(context.peer())
        if request.scope != pb.SCOPE_ALL:
            return await self._reader.read(question, caller, is_strong=is_strong), None
        world = await self._reader.read_world(question, caller, is_strong=is_strong)
        if request.HasField("max_staleness"):
            world.check_staleness(request.max_staleness.ToMicroseconds(), self._clock.now_us())
        return world.reading, world


def _checked_range(
    request: pb.GetViewsCountRequest | pb.GetCountRequest | pb.GetStatsRequest, event_type: str
) -> MinuteRange:
    """The requested range. Raises InvalidRequest with all violations of the request."""
    violations = []
    if problem := rules.check_video_id(request.video_id):
        violations.append(Violation("video_id", problem))
    if problem := rules.check_event_type(event_type):
        violations.append(Violation("event_type", problem))
    if isinstance(request, pb.GetStatsRequest) and (problem := rules.check_function(request.function)):
        violations.append(Violation("function", problem))
    if request.consistency not in Consistency.values():
        violations.append(
            Violation("consistency", f"is {request.consistency}, which is no consistency of this api")
        )
    violations += _check_scope(request)
    if problem := rules.check_nanos(request.start_time.nanos):
        violations.append(Violation("start_time.nanos", problem))
    if problem := rules.check_nanos(request.end_time.nanos):
        violations.append(Violation("end_time.nanos", problem))
    minutes = MinuteRange()
    try:
        minutes = range_of(_micros(request, "start_time"), _micros(request, "end_time"))
    except ValueError as error:
        violations.append(Violation("start_time", str(error)))
    if violations:
        raise InvalidRequest(violations)
    return minutes


def _micros(request: Message, field: str) -> int | None:
    if not request.HasField(field):
        return None
    time: Timestamp = getattr(request, field)
    return time.seconds * 1_000_000 + time.nanos // 1000


def _timestamp(time_us: int) -> Timestamp:
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def _check_scope(
    request: pb.GetViewsCountRequest | pb.GetCountRequest | pb.GetStatsRequest,
) -> list[Violation]:
    found = []
    if request.scope not in pb.Scope.values():
        found.append(Violation("scope", f"is {request.scope}, which is no scope of this api"))
    if request.HasField("max_staleness"):
        if request.scope != pb.SCOPE_ALL:
            found.append(Violation("max_staleness", "is for SCOPE_ALL alone; leave it out"))
        if request.max_staleness.ToMicroseconds() < 0:
            found.append(Violation("max_staleness", "must not be negative"))
    return found


def _count_of(reading: Reading, function: Function) -> int:
    """How many events an aggregate speaks of."""
    return reading.cell.count if function is Function.COUNT else reading.cell.value_count


def _write_parts(world: World | None, function: Function) -> list[pb.RegionPart]:
    return [] if world is None else [_write_part(part, function) for part in world.parts]


def _write_part(part: Part, function: Function) -> pb.RegionPart:
    message = pb.RegionPart(
        device_id=str(part.device),
        name=part.name,
        is_home=part.is_home,
        is_reachable=part.is_reachable,
        consistency=CONSISTENCY_STRONG if part.is_strong else CONSISTENCY_CACHED,
    )
    if part.reading is not None:
        message.count = _count_of(part.reading, function)
        message.as_of.CopyFrom(_timestamp(part.reading.as_of_us))
        if (value := part.reading.cell.evaluate(function)) is not None:
            message.value = value
    return message
