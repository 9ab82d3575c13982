"""The catalog: types, resources, rules and finds. Its messages are those of tally.catalog.v1."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence

from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2
from tally.client._calls.methods import Method
from tally.client._calls.namespace import Namespace
from tally.contract.errors import InvalidRequest

RULES_TIMEOUT_S = 75.0
"""A replica that died, or is frozen, holds up a change of rules for as long as its staleness."""
PUT_TIMEOUT_S = 30.0

_FIND = "/tally.catalog.v1.FindService"
_RESOURCE = "/tally.catalog.v1.ResourceService"
_RIGHTS = "/tally.catalog.v1.RightsService"
FIND = Method(f"{_FIND}/Find", find_pb2.FindRequest, find_pb2.FindResponse.FromString)
PUT_TYPE = Method(
    f"{_RESOURCE}/PutType", resource_pb2.PutTypeRequest, resource_pb2.PutTypeResponse.FromString
)
LIST_TYPES = Method(
    f"{_RESOURCE}/ListTypes", resource_pb2.ListTypesRequest, resource_pb2.ListTypesResponse.FromString
)
PUT_RESOURCE = Method(
    f"{_RESOURCE}/PutResource", resource_pb2.PutResourceRequest, resource_pb2.PutResourceResponse.FromString
)
PUT_RESOURCES = Method(
    f"{_RESOURCE}/PutResources",
    resource_pb2.PutResourcesRequest,
    resource_pb2.PutResourcesResponse.FromString,
)
GET_RESOURCE = Method(
    f"{_RESOURCE}/GetResource", resource_pb2.GetResourceRequest, resource_pb2.GetResourceResponse.FromString
)
BATCH_GET_RESOURCES = Method(
    f"{_RESOURCE}/BatchGetResources",
    resource_pb2.BatchGetResourcesRequest,
    resource_pb2.BatchGetResourcesResponse.FromString,
)
DELETE_RESOURCE = Method(
    f"{_RESOURCE}/DeleteResource",
    resource_pb2.DeleteResourceRequest,
    resource_pb2.DeleteResourceResponse.FromString,
)
ADD_TO_LIST = Method(
    f"{_RESOURCE}/AddToList", resource_pb2.AddToListRequest, resource_pb2.AddToListResponse.FromString
)
REMOVE_FROM_LIST = Method(
    f"{_RESOURCE}/RemoveFromList",
    resource_pb2.RemoveFromListRequest,
    resource_pb2.RemoveFromListResponse.FromString,
)
REPLACE_LIST = Method(
    f"{_RESOURCE}/ReplaceList", resource_pb2.ReplaceListRequest, resource_pb2.ReplaceListResponse.FromString
)
LIST_MEMBERSHIPS = Method(
    f"{_RESOURCE}/ListMemberships",
    resource_pb2.ListMembershipsRequest,
    resource_pb2.ListMembershipsResponse.FromString,
)
LIST_PROJECTED_KEYS = Method(
    f"{_RESOURCE}/ListProjectedKeys",
    resource_pb2.ListProjectedKeysRequest,
    resource_pb2.ListProjectedKeysResponse.FromString,
)
REBUILD_PROJECTION = Method(
    f"{_RESOURCE}/RebuildProjection",
    resource_pb2.RebuildProjectionRequest,
    resource_pb2.RebuildProjectionResponse.FromString,
)
VERIFY_PROJECTION = Method(
    f"{_RESOURCE}/VerifyProjection",
    resource_pb2.VerifyProjectionRequest,
    resource_pb2.VerifyProjectionResponse.FromString,
)
GET_STATUS = Method(
    f"{_RESOURCE}/GetCatalogStatus",
    resource_pb2.GetCatalogStatusRequest,
    resource_pb2.GetCatalogStatusResponse.FromString,
)
WATCH_CHANGES = Method(
    f"{_RESOURCE}/WatchChanges",
    resource_pb2.WatchChangesRequest,
    resource_pb2.WatchChangesResponse.FromString,
)
PUT_RULES = Method(f"{_RIGHTS}/PutRules", rights_pb2.PutRulesRequest, rights_pb2.PutRulesResponse.FromString)
LIST_RULES = Method(
    f"{_RIGHTS}/ListRules", rights_pb2.ListRulesRequest, rights_pb2.ListRulesResponse.FromString
)
TRY_RULES = Method(f"{_RIGHTS}/TryRules", rights_pb2.TryRulesRequest, rights_pb2.TryRulesResponse.FromString)
EXPLAIN = Method(f"{_RIGHTS}/Explain", rights_pb2.ExplainRequest, rights_pb2.ExplainResponse.FromString)
PUT_DIMENSION = Method(
    f"{_RIGHTS}/PutDimension", rights_pb2.PutDimensionRequest, rights_pb2.PutDimensionResponse.FromString
)
LIST_DIMENSIONS = Method(
    f"{_RIGHTS}/ListDimensions",
    rights_pb2.ListDimensionsRequest,
    rights_pb2.ListDimensionsResponse.FromString,
)
_KINDS = {
    "application": rights_pb2.DIMENSION_KIND_APPLICATION,
    "platform": rights_pb2.DIMENSION_KIND_PLATFORM,
}
_CHILDREN = {
    "refuse": resource_pb2.CHILDREN_POLICY_UNSPECIFIED,
    "detach": resource_pb2.CHILDREN_POLICY_DETACH,
    "delete": resource_pb2.CHILDREN_POLICY_DELETE,
}


class Catalog(Namespace):
    """What a client does with the catalog: `client.catalog`. Every method raises TallyError."""

    async def find(
        self, request: find_pb2.FindRequest, *, timeout: float | None = None
    ) -> find_pb2.FindResponse:
        """A page of what a viewer may see. Raises RightsStale when the replica cannot be sure of the rules."""
        return await self._open().call(FIND, request, timeout)

    async def put_type(self, new: resource_pb2.Type, *, timeout: float | None = None) -> int:
        """Store a type; the change that did. Its resources are reindexed where they must be: see `status`.

        Raises InUse when resources would leave a set that rules are about.
        """
        request = resource_pb2.PutTypeRequest(type=new)
        return (await self._open().call(PUT_TYPE, request, timeout)).change

    async def list_types(self, *, timeout: float | None = None) -> list[resource_pb2.Type]:
        """All types."""
        return list((await self._open().call(LIST_TYPES, resource_pb2.ListTypesRequest(), timeout)).types)

    async def put(
        self,
        resource_id: str,
        details: bytes,
        *,
        external_id: str = "",
        expected_version: int | None = None,
        timeout: float = PUT_TIMEOUT_S,
    ) -> resource_pb2.PutResourceResponse:
        """Store a resource. `expected_version`: raises VersionMismatch if another one is stored; 0: none."""
        put = resource_pb2.ResourcePut(
            resource=resource_pb2.Resource(id=resource_id, details=details, external_id=external_id),
            expected_version=expected_version,
        )
        return await self._open().call(PUT_RESOURCE, resource_pb2.PutResourceRequest(put=put), timeout)

    def put_batches(
        self, batches: AsyncIterable[Sequence[resource_pb2.ResourcePut]], *, timeout: float | None = None
    ) -> AsyncGenerator[resource_pb2.PutResourcesResponse, None]:
        """Store batches on one stream: an answer for each, in their order. A batch with problems was not stored."""

        async def requests() -> AsyncGenerator[resource_pb2.PutResourcesRequest, None]:
            async for batch in batches:
                yield resource_pb2.PutResourcesRequest(puts=batch)

        return self._open().stream(PUT_RESOURCES, requests(), timeout, pending={})

    async def get(
        self,
        resource_id: str = "",
        *,
        external_id: str = "",
        viewer: rights_pb2.Viewer | None = None,
        timeout: float | None = None,
    ) -> resource_pb2.GetResourceResponse:
        """A resource, by its id or by `v/NAME`. Raises NotFound, also for what a viewer may not see."""
        request = resource_pb2.GetResourceRequest(id=resource_id, external_id=external_id, viewer=viewer)
        return await self._open().call(GET_RESOURCE, request, timeout)

    async def get_many(
        self,
        ids: Iterable[str],
        *,
        viewer: rights_pb2.Viewer | None = None,
        timeout: float | None = None,
    ) -> list[resource_pb2.Resource]:
        """Up to 1,000 resources, without those that are unknown or hidden from the viewer."""
        request = resource_pb2.BatchGetResourcesRequest(ids=ids, viewer=viewer)
        return list((await self._open().call(BATCH_GET_RESOURCES, request, timeout)).resources)

    async def delete(
        self,
        resource_id: str,
        *,
        expected_version: int | None = None,
        everywhere: bool = False,
        children: str = "refuse",
        timeout: float = RULES_TIMEOUT_S,
    ) -> int:
        """Remove a resource; the change that did, 0 if it was not there.

        `children`: `detach` keeps them without a parent, `delete` removes them and all below them, in pieces: send the
        same again after a timeout. `refuse` raises InUse while there are some.
        """
        if children not in _CHILDREN:
            raise InvalidRequest.of("children", f"{children!r} is none of {', '.join(_CHILDREN)}")
        request = resource_pb2.DeleteResourceRequest(
            id=resource_id,
            expected_version=expected_version,
            everywhere=everywhere,
            children=_CHILDREN[children],
        )
        return (await self._open().call(DELETE_RESOURCE, request, timeout)).change

    async def add_to_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.AddToListResponse:
        """Add ids to `9002u:subscriptions` or `list:featured`, the last one newest. Raises ListFull."""
        request = resource_pb2.AddToListRequest(list=key, ids=ids)
        return await self._open().call(ADD_TO_LIST, request, timeout)

    async def remove_from_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.RemoveFromListResponse:
        """Remove ids from a list."""
        request = resource_pb2.RemoveFromListRequest(list=key, ids=ids)
        return await self._open().call(REMOVE_FROM_LIST, request, timeout)

    async def replace_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.ReplaceListResponse:
        """Let a list have these ids and no others, the first one first."""
        request = resource_pb2.ReplaceListRequest(list=key, ids=ids)
        return await self._open().call(REPLACE_LIST, request, timeout)

    async def memberships(
        self, resource_id: str, *, after: str = "", timeout: float | None = None
    ) -> resource_pb2.ListMembershipsResponse:
        """Up to 1,000 lists that a resource is in, behind `after`."""
        request = resource_pb2.ListMembershipsRequest(id=resource_id, after=after)
        return await self._open().call(LIST_MEMBERSHIPS, request, timeout)

    def watch(
        self, after: int = 0, *, timeout: float | None = None
    ) -> AsyncGenerator[resource_pb2.WatchChangesResponse, None]:
        """The changes behind one, in order, and those to come. Raises ChangeOutOfRange when they are not kept."""

        async def requests() -> AsyncGenerator[resource_pb2.WatchChangesRequest, None]:
            yield resource_pb2.WatchChangesRequest(after=after)

        return self._open().stream(WATCH_CHANGES, requests(), timeout, pending={})

    async def put_rules(
        self, subject: str, rules: Iterable[rights_pb2.Rule], *, timeout: float = RULES_TIMEOUT_S
    ) -> rights_pb2.PutRulesResponse:
        """Replace the rules of a subject. When this returns, no replica answers by the rules before."""
        request = rights_pb2.PutRulesRequest(subject=subject, rules=rules)
        return await self._open().call(PUT_RULES, request, timeout)

    async def try_rules(
        self, subjects: Iterable[rights_pb2.SubjectRules], *, timeout: float = RULES_TIMEOUT_S
    ) -> rights_pb2.TryRulesResponse:
        """What would appear and disappear, for whom and when, if each subject had these rules. Nothing is stored."""
        request = rights_pb2.TryRulesRequest(subjects=subjects)
        return await self._open().call(TRY_RULES, request, timeout)

    async def explain(
        self, request: rights_pb2.ExplainRequest, *, timeout: float | None = None
    ) -> rights_pb2.ExplainResponse:
        """Why a viewer may or may not see a resource, now and later."""
        return await self._open().call(EXPLAIN, request, timeout)

    async def list_rules(
        self, subject: str = "", *, after: str = "", timeout: float | None = None
    ) -> rights_pb2.ListRulesResponse:
        """The rules of a subject, or of up to 1,000 subjects behind `after`."""
        request = rights_pb2.ListRulesRequest(subject=subject, after=after)
        return await self._open().call(LIST_RULES, request, timeout)

    async def put_dimension(
        self, kind: str, codes: Iterable[str], *, timeout: float = RULES_TIMEOUT_S
    ) -> int:
        """Replace the codes of `application` or `platform`; the change that did. Raises InUse."""
        if kind not in _KINDS:
            raise InvalidRequest.of("kind", f"{kind!r} is none of {', '.join(_KINDS)}")
        dimension = rights_pb2.Dimension(kind=_KINDS[kind], codes=codes)
        request = rights_pb2.PutDimensionRequest(dimension=dimension)
        return (await self._open().call(PUT_DIMENSION, request, timeout)).change

    async def list_dimensions(self, *, timeout: float | None = None) -> list[rights_pb2.Dimension]:
        """The registered codes."""
        request = rights_pb2.ListDimensionsRequest()
        return list((await self._open().call(LIST_DIMENSIONS, request, timeout)).dimensions)

    async def keys(
        self, resource_id: str, *, timeout: float | None = None
    ) -> resource_pb2.ListProjectedKeysResponse:
        """The keys in Valkey of a resource."""
        request = resource_pb2.ListProjectedKeysRequest(id=resource_id)
        return await self._open().call(LIST_PROJECTED_KEYS, request, timeout)

    async def rebuild_projection(self, *, timeout: float | None = None) -> int:
        """Have the projection rebuilt; the change that it holds at least when it is complete again: see `status`."""
        request = resource_pb2.RebuildProjectionRequest()
        return (await self._open().call(REBUILD_PROJECTION, request, timeout)).change

    async def verify_projection(
        self, cursor: str = "", *, timeout: float = RULES_TIMEOUT_S
    ) -> resource_pb2.VerifyProjectionResponse:
        """Compare a piece of the projection with the record; go on with `next_cursor` until it is empty."""
        request = resource_pb2.VerifyProjectionRequest(cursor=cursor)
        return await self._open().call(VERIFY_PROJECTION, request, timeout)

    async def status(self, *, timeout: float | None = None) -> resource_pb2.GetCatalogStatusResponse:
        """The newest change of the record, of the replica that answers, of the others and of the projection."""
        return await self._open().call(GET_STATUS, resource_pb2.GetCatalogStatusRequest(), timeout)
