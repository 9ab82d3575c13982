"""ResourceService: protobuf ↔ types and resources."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.catalog.deletion import delete_resource
from services.catalog.enforcement import until_in_force
from services.catalog.feed import read_head
from services.catalog.find_wire import read_viewer
from services.catalog.finder import Finder
from services.catalog.follower import Follower
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.list_record import add_to_list, list_memberships, remove_from_list, replace_list
from services.catalog.projection import Projection
from services.catalog.resource_reading import read_by_external_id, read_resources
from services.catalog.resource_record import put_resources
from services.catalog.resource_wire import (
    MAX_IDS,
    message_of_row,
    of_single,
    read_children,
    read_external_id,
    read_put,
    write_problems,
)
from services.catalog.status import read_status
from services.catalog.times import write_time
from services.catalog.type_record import put_type, read_types
from services.catalog.type_wire import message_of_type, type_of_message
from services.catalog.verification import Verification
from services.catalog.watching import Watching
from services.catalog.writing import Writing
from tally.catalog.v1 import resource_pb2 as pb
from tally.catalog.v1.resource_pb2_grpc import ResourceServiceServicer
from tally.contract.errors import InvalidRequest, NotFound, Violation


class ResourceServicer(ResourceServiceServicer):
    """Serves types and resources."""

    def __init__(
        self,
        pool: Any,
        writing: Writing,
        finder: Finder,
        watching: Watching,
        follower: Follower,
        projection: Projection,
        verification: Verification,
        wake_projection: Callable[[], None],
        max_entries: int,
    ) -> None:
        """`max_entries`: of a list."""
        self._pool = pool
        self._writing = writing
        self._finder = finder
        self._watching = watching
        self._follower = follower
        self._projection = projection
        self._verification = verification
        self._wake_projection = wake_projection
        self._max_entries = max_entries

    async def PutType(self, request: pb.PutTypeRequest, context: ServicerContext) -> pb.PutTypeResponse:
        stored = await put_type(self._writing, type_of_message(request.type))
        return pb.PutTypeResponse(change=stored.change, reindexing=stored.is_reindexed)

    async def ListTypes(self, request: pb.ListTypesRequest, context: ServicerContext) -> pb.ListTypesResponse:
        with reaching_postgres():
            return pb.ListTypesResponse(types=map(message_of_type, await read_types(self._pool)))

    async def PutResource(
        self, request: pb.PutResourceRequest, context: ServicerContext
    ) -> pb.PutResourceResponse:
        put = read_put(request.put)
        try:
            stored = await put_resources(self._writing, [put])
        except InvalidRequest as error:
            raise of_single(error) from error
        return pb.PutResourceResponse(version=stored.versions[put.id], changed=put.id in stored.changed)

    async def PutResources(
        self, requests: AsyncIterator[pb.PutResourcesRequest], context: ServicerContext
    ) -> AsyncIterator[pb.PutResourcesResponse]:
        async for request in requests:
            try:
                stored = await put_resources(self._writing, [read_put(each) for each in request.puts])
            except InvalidRequest as error:  # of this batch; the stream goes on
                yield pb.PutResourcesResponse(problems=write_problems(error.violations))
            else:
                yield pb.PutResourcesResponse(changed=len(stored.changed), change=stored.change)

    async def GetResource(
        self, request: pb.GetResourceRequest, context: ServicerContext
    ) -> pb.GetResourceResponse:
        row = await self._read(request)
        if row is None or (request.HasField("viewer") and not self._sees(request, row["id"])):
            raise NotFound(f"there is no resource {request.id or request.external_id}")
        return pb.GetResourceResponse(
            resource=message_of_row(row),
            keys=row["keys"],
            parent=row["parent"] or "",
            create_time=row["created_at"],
            update_time=row["updated_at"],
        )

    async def BatchGetResources(
        self, request: pb.BatchGetResourcesRequest, context: ServicerContext
    ) -> pb.BatchGetResourcesResponse:
        if not 1 <= len(request.ids) <= MAX_IDS:
            raise InvalidRequest([Violation("ids", f"must be 1 to {MAX_IDS:,}")])
        with reaching_postgres():
            rows = await read_resources(self._pool, request.ids)
        ids = [each for each in dict.fromkeys(request.ids) if each in rows]
        if request.HasField("viewer"):
            ids = self._finder.sees(read_viewer(request.viewer), ids)
        return pb.BatchGetResourcesResponse(resources=[message_of_row(rows[each]) for each in ids])

    async def DeleteResource(
        self, request: pb.DeleteResourceRequest, context: ServicerContext
    ) -> pb.DeleteResourceResponse:
        expected = request.expected_version if request.HasField("expected_version") else None
        children = read_children(request.children)
        deleted = await delete_resource(self._writing, request.id, expected, children)
        if request.everywhere and deleted.change:
            await until_in_force(self._pool, deleted.change)
        return pb.DeleteResourceResponse(change=deleted.change, children=deleted.children)

    async def AddToList(self, request: pb.AddToListRequest, context: ServicerContext) -> pb.AddToListResponse:
        done = await add_to_list(self._writing, request.list, request.ids, self._max_entries)
        return pb.AddToListResponse(
            change=done.change,
            added_count=done.added,
            moved_count=done.moved,
            dropped_count=done.removed,
            missing_ids=done.missing,
        )

    async def RemoveFromList(
        self, request: pb.RemoveFromListRequest, context: ServicerContext
    ) -> pb.RemoveFromListResponse:
        done = await remove_from_list(self._writing, request.list, request.ids)
        return pb.RemoveFromListResponse(change=done.change, removed_count=done.removed)

    async def ReplaceList(
        self, request: pb.ReplaceListRequest, context: ServicerContext
    ) -> pb.ReplaceListResponse:
        done = await replace_list(self._writing, request.list, request.ids, self._max_entries)
        return pb.ReplaceListResponse(
            change=done.change, added_count=done.added, removed_count=done.removed, missing_ids=done.missing
        )

    async def ListMemberships(
        self, request: pb.ListMembershipsRequest, context: ServicerContext
    ) -> pb.ListMembershipsResponse:
        if not is_id(request.id):
            raise InvalidRequest([Violation("id", WHAT_AN_ID_IS)])
        with reaching_postgres():
            found = await list_memberships(self._pool, request.id, request.after, MAX_IDS + 1)
        return pb.ListMembershipsResponse(
            memberships=[
                pb.Membership(list=key, add_time=write_time(score * 1_000)) for key, score in found[:MAX_IDS]
            ],
            has_more=len(found) > MAX_IDS,
        )

    async def WatchChanges(
        self, request: pb.WatchChangesRequest, context: ServicerContext
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        async for change in self._watching.watch(request.after):
            yield change

    async def ListProjectedKeys(
        self, request: pb.ListProjectedKeysRequest, context: ServicerContext
    ) -> pb.ListProjectedKeysResponse:
        if not is_id(request.id):
            raise InvalidRequest([Violation("id", WHAT_AN_ID_IS)])
        found = await self._projection.list_keys(request.id)
        return pb.ListProjectedKeysResponse(
            keys=[pb.ProjectedKey(key=key, content=content) for key, content in found],
            projection_state=self._projection.state.value,
        )

    async def RebuildProjection(
        self, request: pb.RebuildProjectionRequest, context: ServicerContext
    ) -> pb.RebuildProjectionResponse:
        with reaching_postgres():
            head = await read_head(self._pool)
        await self._projection.forget()
        self._wake_projection()
        return pb.RebuildProjectionResponse(change=head.change)

    async def VerifyProjection(
        self, request: pb.VerifyProjectionRequest, context: ServicerContext
    ) -> pb.VerifyProjectionResponse:
        with reaching_postgres():
            found = await self._verification.verify(request.cursor)
        return pb.VerifyProjectionResponse(
            resource_count=found.resources,
            key_count=found.keys,
            problems=[pb.ProjectionProblem(key=key, description=problem) for key, problem in found.problems],
            next_cursor=found.next_cursor,
        )

    async def GetCatalogStatus(
        self, request: pb.GetCatalogStatusRequest, context: ServicerContext
    ) -> pb.GetCatalogStatusResponse:
        return await read_status(self._pool, self._follower, self._projection)

    async def _read(self, request: pb.GetResourceRequest) -> Any:
        if bool(request.id) is bool(request.external_id):
            raise InvalidRequest([Violation("id", "must be given, or external_id, and not both")])
        if request.external_id:
            suffix, external_id = read_external_id(request.external_id)
            with reaching_postgres():
                return await read_by_external_id(self._pool, suffix, external_id)
        if not is_id(request.id):
            raise InvalidRequest([Violation("id", WHAT_AN_ID_IS)])
        with reaching_postgres():
            return (await read_resources(self._pool, [request.id])).get(request.id)

    def _sees(self, request: pb.GetResourceRequest, resource_id: str) -> bool:
        return bool(self._finder.sees(read_viewer(request.viewer), [resource_id]))
