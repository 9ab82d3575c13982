"""The newest change of the record, of each replica and of the projection."""

from typing import Any

from libs.stores.postgres import reaching_postgres
from services.catalog.feed import read_head
from services.catalog.follower import Follower
from services.catalog.projection import Projection
from services.catalog.reindexing import read_misfits, read_progress
from services.catalog.replicas import list_replicas
from tally.catalog.v1 import resource_pb2 as pb
from tally.contract.errors import Unavailable

_MISFITS = 20


async def read_status(pool: Any, follower: Follower, projection: Projection) -> pb.GetCatalogStatusResponse:
    """The status as a replica sees it. Raises Unavailable when Postgres is unreachable."""
    with reaching_postgres():
        head = await read_head(pool)
        rows = await list_replicas(pool)
        progress = await read_progress(pool)
        misfit_count, misfits = await read_misfits(pool, _MISFITS)
    response = pb.GetCatalogStatusResponse(
        last_change=head.change,
        stale_seconds=follower.freshness.stale_seconds,
        replicas=[
            pb.CatalogReplica(
                replica_id=str(row.replica_id),
                serving=row.serving,
                applied_change=row.applied_change,
                ask_time=row.asked_at,
            )
            for row in rows
        ],
        projection_state=projection.state.value,
        projected_change=projection.position,
        loading_count=follower.loading_count,
        reindexing=[
            pb.Reindexing(suffix=each.suffix, names=each.names, after=each.after) for each in progress
        ],
        misfit_count=misfit_count,
        misfits=[pb.Misfit(id=resource_id, problem=problem) for resource_id, problem in misfits],
    )
    try:
        view = follower.view
    except Unavailable:
        return response
    response.applied_change = view.change
    response.resource_count = len(view.live)
    return response
