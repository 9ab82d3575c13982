"""What must hold whatever was broken. Each check answers with a sentence for each thing that is wrong.

Those of a round (`check_counts`, `check_journal`, `check_strangers`) need its ledger; the others look at the whole
database, as `find_wrong` of `tests/support/proof.py` does, which is asked too. All but `check_snapshot`, which holds at
any instant, are for a Tally at rest: nobody counts, and everything is applied.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from libs.domain.cells import Cell
from libs.domain.partition import partition_of
from libs.rpc.columns import decode
from tally.client import Client
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.fault.table.ledger import Key, Ledger, Request, total
from tests.fault.table.requests import VALUE_OF
from tests.support.entries import counts_of
from tests.support.proof import shorten
from tests.support.rollups import EVENTS, read_counts, read_rollups

_AT_ONCE = 500
"""request ids in one question"""

_ENTRIES = """
select request_id, partition, events, payload from counting.journal where request_id = any($1::uuid[])"""
# Names of videos are in a payload as they are.
_IDS = """
select distinct request_id from counting.journal where position(convert_to($1, 'UTF8') in payload) > 0"""
_LETTERS = """
select request_id, partition, events, payload, log_id is not null as is_journaled from counting.dead_letter
where state = 'waiting'"""
# One statement is one snapshot: what a strong read adds up, against the journal.
_SNAPSHOT = f"""
select {EVENTS}::bigint as rolled_up,
    (select coalesce(sum(events - case when seq = split_seq then applied_events else 0 end), 0)
        from counting.log join counting.checkpoint using (log_id) join counting.journal using (log_id)
        where state <> 'settled' and seq > applied_seq and request_id >= opening_floor)::bigint as pending,
    (select coalesce(sum(events), 0) from counting.dead_letter where log_id is not null)::bigint as dead,
    (select coalesce(sum(events), 0) from counting.journal)::bigint as journaled"""


async def check_counts(connection: Any, ledger: Ledger, prefix: str) -> list[str]:
    """For every video (of those that begin with `prefix`) and event type, in events:

    acknowledged ≤ counted, or waiting as a dead letter ≤ acknowledged + unknown
    """
    counted: Counter[Key] = Counter()
    for key, n in (await read_counts(connection)).items():
        if key[0].startswith(prefix):
            counted[key] = n
    for letter in await connection.fetch(_LETTERS):
        counted += Counter({key: n for key, n in _read(letter).items() if key[0].startswith(prefix)})
    least, open_ended = total(ledger.acknowledged), total(ledger.unknown)
    return shorten(
        f"{kind} of {video}: counted {counted[video, kind]}, acknowledged {least[video, kind]}, "
        f"unknown {open_ended[video, kind]}"
        for video, kind in sorted(counted.keys() | least.keys())
        if not least[video, kind] <= counted[video, kind] <= least[video, kind] + open_ended[video, kind]
    )


async def check_values(connection: Any, prefix: str) -> list[str]:
    """Every event that carries a value is in the sums as often as in the counts."""
    # Every event of a type that carries a value carries the same one.
    return shorten(
        f"not {VALUE_OF[key.event_type]} for each event of {key}: {cell}"
        for key, cell in (await read_rollups(connection)).items()
        if key.video_id.startswith(prefix)
        and (value := VALUE_OF.get(key.event_type)) is not None
        and cell != Cell(cell.count, cell.count, cell.count * value, value, value, 0.0)
    )


async def check_journal(connection: Any, ledger: Ledger, partition_count: int) -> list[str]:
    """Every acknowledged request is in the journal (or waits as a dead letter) once for each of its partitions,
    with exactly its events; and of the others, each part that is there is one of theirs.
    """
    kept: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await _fetch_entries(connection, [uuid.UUID(request_id) for request_id in ledger.requests]):
        kept[str(row["request_id"])].append(row)
    for letter in await connection.fetch(_LETTERS):
        if not letter["is_journaled"] and str(letter["request_id"]) in ledger.requests:
            kept[str(letter["request_id"])].append(letter)
    return shorten(
        problem
        for request in ledger.requests.values()
        for problem in _compare(request, kept[request.request_id], partition_count)
    )


async def check_strangers(connection: Any, ledger: Ledger, prefix: str) -> list[str]:
    """Every request of videos that begin with `prefix` is one of the ledger.

    Events that were journaled once more under an id of which no client knows could otherwise pass for those of a
    request without an answer.
    """
    ids = [row["request_id"] for row in await connection.fetch(_IDS, prefix)]
    strange = await _fetch_entries(connection, [each for each in ids if str(each) not in ledger.requests])
    strange += [
        letter
        for letter in await connection.fetch(_LETTERS)
        if str(letter["request_id"]) not in ledger.requests
    ]
    return shorten(
        f"no client knows of request {row['request_id']}, kept in partition {row['partition']} with {row['events']} "
        "events"
        for row in strange
        if any(video.startswith(prefix) for video, _ in _read(row))
    )


async def check_snapshot(connection: Any) -> list[str]:
    """At any instant: the rollups and what a strong read adds to them are the journal, less dead letters."""
    row = await connection.fetchrow(_SNAPSHOT)
    if row["rolled_up"] + row["pending"] == row["journaled"] - row["dead"]:
        return []
    return [f"in one snapshot, in events: {dict(row)}"]


async def check_audit(client: Client) -> list[str]:
    """Discrepancy 0 by the Audit rpc."""
    found = await client.audit()
    return [f"the audit says: {found}"] if found.discrepancy_events else []


async def dead_events(connection: Any, prefix: str) -> int:
    """The events that wait as dead letters, of videos that begin with `prefix`."""
    letters = await connection.fetch(_LETTERS)
    return sum(n for letter in letters for (video, _), n in _read(letter).items() if video.startswith(prefix))


async def _fetch_entries(connection: Any, ids: Sequence[uuid.UUID]) -> list[Any]:
    """The entries of these requests in the journal."""
    rows: list[Any] = []
    for start in range(0, len(ids), _AT_ONCE):
        rows += await connection.fetch(_ENTRIES, ids[start : start + _AT_ONCE])
    return rows


def _compare(request: Request, kept: Sequence[Any], partition_count: int) -> list[str]:
    parts = _parts(request, partition_count)
    wrong = []
    seen = Counter(row["partition"] for row in kept)
    for row in kept:
        events = _read(row)
        if events != parts.get(row["partition"]) or row["events"] != events.total():
            wrong.append(f"request {request.request_id} has other events in partition {row['partition']}")
    return wrong + [
        f"request {request.request_id} ({request.durability or 'unknown'}) is kept {seen[partition]} times "
        f"in partition {partition}"
        for partition in parts.keys() | seen.keys()
        if seen[partition] > 1 or (request.durability and seen[partition] != 1)
    ]


def _parts(request: Request, partition_count: int) -> dict[int, Counter[Key]]:
    """The events of a request by partition."""
    parts: defaultdict[int, Counter[Key]] = defaultdict(Counter)
    for (video, kind), count in request.events.items():
        parts[partition_of(video, partition_count)][video, kind] = count
    return dict(parts)


def _read(row: Any) -> Counter[Key]:
    return counts_of(decode(EventColumns.FromString(row["payload"])))
