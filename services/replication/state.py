"""What a peer's announcements and loads make of its locations here: current, loading or behind (the source's state.rs).

A location without a row is current. An announcement makes it behind, in the transaction that applies it, with the
watermark up to which its rows are here; until it is loaded, passes leave its entries out.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import structlog

from services.replication.rows import to_time
from services.replication.wire import uuid_of
from tally.replication.v1 import peers_pb2 as pb

_LOGGER = structlog.get_logger(__name__)

_POLICY = "select policy from replication.region where device = $1"
# What was loaded stays loaded up to where it was; of a current location that is the watermark.
_UPDATE_PEER_STATE = """
insert into replication.peer_state (
    device, location, state, loaded_to, entry_count, changed_count, indexed_at, is_wanted
)
select $1, $2, 'behind', (select snapshot from replication.watermark where device = $1 and model = 'entry'),
    $3, $4, $5, $6
on conflict (device, location) do update set
    state = 'behind', entry_count = excluded.entry_count, indexed_at = excluded.indexed_at,
    changed_count = excluded.changed_count
        + case peer_state.state when 'behind' then peer_state.changed_count else 0 end,
    loaded_to = case peer_state.state when 'behind' then peer_state.loaded_to else excluded.loaded_to end,
    is_wanted = peer_state.is_wanted or excluded.is_wanted"""
_QUEUE = """
insert into replication.transfer (id, device, strategy, location, phase, rows_total)
select $1, device, 'notify', location, 'queued', changed_count from replication.peer_state
where device = $2 and location = $3 and transfer is null"""
_LINK = """
update replication.peer_state set transfer = $1 where device = $2 and location = $3 and transfer is null"""
_WANT = """
update replication.peer_state set is_wanted = true
where location = $1 and state <> 'current' and not is_wanted returning device"""
_STATE = "select device, state from replication.peer_state where location = $1"
_JOBS = """
select location, state, loaded_to::text as loaded_to, load_key, load_replaces from replication.peer_state
where device = $1 and state in ('behind', 'loading') and (is_wanted or state = 'loading')
order by state = 'behind', location limit $2"""
_BEGIN_LOAD = """
update replication.peer_state set state = 'loading', load_key = null, load_replaces = $3
where device = $1 and location = $2 and state in ('behind', 'loading')
returning transfer"""
_MOVE_LOAD = """
update replication.peer_state set load_key = $3
where device = $1 and location = $2 and state = 'loading' returning transfer"""
_END_LOAD = """
update replication.peer_state set
    state = 'current', loaded_to = null, load_key = null, is_wanted = false, changed_count = 0, transfer = null
where device = $1 and location = $2 and state = 'loading'"""
_RESTART_LOAD = """
update replication.peer_state set state = 'behind', loaded_to = null, load_key = null
where device = $1 and location = $2"""
_TRANSFER_OF = "select transfer from replication.peer_state where device = $1 and location = $2"


@dataclass(frozen=True, slots=True)
class Job:
    """A location that must be loaded, or is being loaded."""

    location: uuid.UUID
    is_loading: bool
    loaded_to: str | None
    load_key: uuid.UUID | None
    replaces: bool


async def on_peer_bulk_index_complete(
    connection: Any, device: uuid.UUID, notification: pb.BulkIndexComplete
) -> bool:
    """A peer announces a location: it is behind from now on. True: it is to be loaded."""
    location = uuid_of(notification.location_id)
    _LOGGER.info(
        "Peer completed bulk indexing",
        device=str(device),
        location=str(location),
        count=notification.entry_count,
        changed=notification.changed_count,
    )
    is_wanted = await should_sync_location(connection, device, location)
    await update_peer_state(connection, device, location, notification, is_wanted=is_wanted)
    if is_wanted:
        await queue_bulk_fetch_job(connection, device, location)
    return is_wanted


async def should_sync_location(connection: Any, device: uuid.UUID, location: uuid.UUID) -> bool:
    """Whether an announced location is loaded at once: by the policy for its region."""
    _ = location  # policies of single locations come with the selection of options
    return bool(await connection.fetchval(_POLICY, device) == "follow")


async def update_peer_state(
    connection: Any,
    device: uuid.UUID,
    location: uuid.UUID,
    notification: pb.BulkIndexComplete,
    *,
    is_wanted: bool,
) -> None:
    """Keep what was announced, for `ListLocations` and for the load."""
    await connection.execute(
        _UPDATE_PEER_STATE,
        device,
        location,
        notification.entry_count,
        notification.changed_count,
        to_time(notification.indexed_at.ToMicroseconds()),
        is_wanted,
    )


async def queue_bulk_fetch_job(connection: Any, device: uuid.UUID, location: uuid.UUID) -> None:
    """Load a location in the background. The job is a row, and survives a restart."""
    transfer = uuid.uuid4()
    await connection.execute(_QUEUE, transfer, device, location)
    await connection.execute(_LINK, transfer, device, location)


async def want_location(connection: Any, location: uuid.UUID) -> bool:
    """A caller reads or requests a location: it is loaded if it is behind. False: nothing to load."""
    device = await connection.fetchval(_WANT, location)
    if device is None:
        return await connection.fetchval(_STATE, location) is not None
    await queue_bulk_fetch_job(connection, device, location)
    return True


async def list_jobs(pool: Any, device: uuid.UUID, limit: int) -> list[Job]:
    """The loads of a device that are in progress or wanted; those in progress first."""
    return [
        Job(
            row["location"],
            row["state"] == "loading",
            row["loaded_to"],
            row["load_key"],
            row["load_replaces"],
        )
        for row in await pool.fetch(_JOBS, device, limit)
    ]


async def begin_load(
    connection: Any, device: uuid.UUID, location: uuid.UUID, *, replaces: bool
) -> uuid.UUID | None:
    """Begin a load: from now on passes bring the changes of the location. Returns the transfer of its progress."""
    transfer: uuid.UUID | None = await connection.fetchval(_BEGIN_LOAD, device, location, replaces)
    return transfer


async def move_load(
    connection: Any, device: uuid.UUID, location: uuid.UUID, key: uuid.UUID
) -> uuid.UUID | None:
    """The load has everything up to a key."""
    transfer: uuid.UUID | None = await connection.fetchval(_MOVE_LOAD, device, location, key)
    return transfer


async def end_load(connection: Any, device: uuid.UUID, location: uuid.UUID) -> uuid.UUID | None:
    """The location is current."""
    transfer: uuid.UUID | None = await connection.fetchval(_TRANSFER_OF, device, location)
    await connection.execute(_END_LOAD, device, location)
    return transfer


async def restart_load(pool: Any, device: uuid.UUID, location: uuid.UUID) -> None:
    """Load a location again, and replace the stored rows."""
    await pool.execute(_RESTART_LOAD, device, location)
