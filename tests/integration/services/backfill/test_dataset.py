"""Jobs, accounts, deliveries, and what of their parts counts."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from libs.atproto.syntax import make_tid
from libs.dataset.parts import open_duckdb, write_part
from libs.dataset.rows import BUCKETS, LIKE, POST, REPOST, Row, bucket_of
from libs.stores.objects import Objects, folder_url
from loadtests.simulators.network import did_of
from services.backfill.candidates import open_candidates
from services.backfill.deliveries import Delivery, PartRow, RepoRow, record_delivery
from services.backfill.documents import Account, NoAccount
from services.backfill.jobs import Wish, create_job, list_failures, list_jobs, read_job
from services.backfill.repos import (
    Failure,
    claim_waiting,
    read_accounts,
    record_failures,
    record_resolved,
)
from tally.contract.errors import InvalidRequest, NotFound, Unavailable

DIDS = [did_of(number) for number in range(12)]
REVS = [make_tid(1_750_000_000_000_000 + number) for number in range(3)]


async def stream(*batches: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    for batch in batches:
        yield batch


async def make_ready(pool: Any, dids: Sequence[str] = DIDS, job: str = "job") -> None:
    """A job over accounts whose host is known."""
    await create_job(pool, Wish(job, 50), stream(dids))
    await record_resolved(
        pool, [Account(did, "https://host", "Multikey", "z") for did in await claim_waiting(pool, 100)], {}
    )


def row_of(did: str, collection: str, key: str, subject: str | None = None, has_video: bool = False) -> Row:
    return Row(
        *(bucket_of(did), did, collection, key, f"at://{did}/{collection}/{key}", "cid", REVS[0], None),
        *(10**15, "rev", subject, has_video, None, None, "{}", None),
    )


class Store:
    """Writes parts and deliveries as a worker does."""

    def __init__(self, pool: Any, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.objects = Objects(folder_url(folder / "objects"))

    async def deliver(self, rows: Sequence[Row], revs: dict[str, str]) -> int:
        parts = []
        for collection in sorted({row.collection for row in rows}):
            with open_duckdb() as connection:
                part = write_part(
                    connection, [row for row in rows if row.collection == collection], self.folder
                )
            await self.objects.put(part.name, part.path)
            parts.append(PartRow(part.name, part.collection, part.row_count, part.byte_count))
        counts = Counter(row.did for row in rows)
        repos = [RepoRow(did, rev, counts[did]) for did, rev in revs.items()]
        return await record_delivery(self.pool, Delivery(parts, repos))

    async def events(self) -> tuple[Counter[tuple[str, str, str]], int]:
        """Every event of the dataset as (author, type, video), and how many are of no known video."""
        found: Counter[tuple[str, str, str]] = Counter()
        others = 0
        async with open_candidates(self.pool, self.objects, self.folder / "work") as candidates:
            for bucket in range(BUCKETS):
                some = await candidates.of(bucket)
                assert all(bucket_of(event.did) == bucket for event in some.events)
                found.update((event.did, event.kind, event.video) for event in some.events)
                others += some.other_count
        return found, others


@pytest.fixture
def store(pool: Any, tmp_path: Path) -> Store:
    return Store(pool, tmp_path)


async def test_a_job_is_resumed_by_the_same_accounts_and_by_no_others(pool: Any) -> None:
    wish = Wish("job", 50)
    assert not await create_job(pool, wish, stream(DIDS[:5], [*DIDS[5:], DIDS[0]]))
    assert await create_job(pool, wish, stream([*DIDS, DIDS[0]]))
    for others in (DIDS, DIDS[::-1], [*DIDS, did_of(99)]):
        with pytest.raises(InvalidRequest, match="over other accounts"):
            await create_job(pool, wish, stream(others))
    row = await read_job(pool, "")
    assert (row["job_id"], row["repos"], row["waiting"]) == ("job", 12, 12)
    with pytest.raises(NotFound):
        await read_job(pool, "another")


async def test_a_job_whose_stream_broke_is_nobodys_and_begins_anew(pool: Any) -> None:
    async def broken() -> AsyncIterator[Sequence[str]]:
        yield DIDS[:5]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await create_job(pool, Wish("job", 50), broken())
    assert await list_jobs(pool, "", 10) == []
    assert await claim_waiting(pool, 100) == []
    assert not await create_job(pool, Wish("job", 7), stream(DIDS[6:]))
    row = await read_job(pool, "job")
    assert (row["repos"], row["batch_size"]) == (6, 7)


async def test_two_streams_of_one_new_job_are_not_mixed(pool: Any) -> None:
    async def overtaken() -> AsyncIterator[Sequence[str]]:
        yield DIDS[:3]
        await create_job(pool, Wish("job", 50), stream(DIDS[6:]))
        yield DIDS[3:6]

    with pytest.raises(Unavailable, match="another call"):
        await create_job(pool, Wish("job", 50), overtaken())
    assert (await read_job(pool, "job"))["repos"] == 6


async def test_an_account_of_two_jobs_is_resolved_and_fetched_once_for_both(pool: Any) -> None:
    await make_ready(pool)
    await create_job(pool, Wish("other", 50), stream(DIDS[:4]))
    assert await claim_waiting(pool, 100) == []
    assert (await read_job(pool, "other"))["ready"] == 4
    rows = await list_jobs(pool, "", 10)
    assert [row["job_id"] for row in rows] == ["other", "job"]
    assert [row["job_id"] for row in await list_jobs(pool, "other", 10)] == ["job"]


async def test_an_account_without_a_repository_is_given_up_with_its_reason(pool: Any) -> None:
    await create_job(pool, Wish("job", 50), stream(DIDS[:2]))
    claimed = await claim_waiting(pool, 100)
    assert await claim_waiting(pool, 100) == []  # for a minute they are this process's
    await record_resolved(pool, [], {claimed[0]: NoAccount("no_host", "why")})
    (failure,) = await list_failures(pool, "job", "", 10)
    assert (failure["did"], failure["reason"], failure["detail"]) == (claimed[0], "no_host", "why")


async def test_failures_cost_attempts_and_what_a_new_document_may_mend_is_resolved_once_more(
    pool: Any,
) -> None:
    """T002-13"""
    await make_ready(pool, DIDS[:1])
    (did,) = DIDS[:1]
    cut = Failure(did, "car_truncated", "cut", is_transient=True)
    assert await record_failures(pool, [cut], 3, 0.0) == []
    assert len(await read_accounts(pool, [did])) == 1
    signed = Failure(did, "signature_invalid", "wrong key", is_transient=False)
    assert await record_failures(pool, [signed], 3, 0.0) == []
    assert await read_accounts(pool, [did]) == []
    assert await claim_waiting(pool, 10) == [did]
    await record_resolved(pool, [Account(did, "https://other", "Multikey", "z")], {})
    assert [each.host for each in await read_accounts(pool, [did])] == ["https://other"]
    assert await record_failures(pool, [signed], 3, 0.0) == [did]
    assert await record_failures(pool, [signed], 3, 0.0) == [did]  # told again
    (failure,) = await list_failures(pool, "job", "", 10)
    assert (failure["reason"], failure["attempts"]) == ("signature_invalid", 2)


@pytest.mark.exact
async def test_a_row_counts_only_if_its_account_names_the_delivery_of_its_part(store: Store) -> None:
    await make_ready(store.pool)
    author, liker = DIDS[:2]
    video = f"at://{author}/{POST}/1"
    post, like = row_of(author, POST, "1", has_video=True), row_of(liker, LIKE, "1", video)
    assert await store.deliver([post, like], {author: REVS[0], liker: REVS[0]}) == 2
    # Another worker brings the liker again, and more that is not stored by it: the same rev, with another record.
    repost = row_of(liker, REPOST, "1", video)
    third = row_of(DIDS[2], REPOST, "9", "at://x")
    assert await store.deliver([like, repost, third], {liker: REVS[0], DIDS[2]: REVS[0]}) == 1
    expected = Counter({(author, "post", video): 1, (liker, "like", video): 1})
    assert await store.events() == (expected, 1)
    # A later rev takes its place, and an earlier one does not (T002-34).
    assert await store.deliver([repost], {liker: REVS[2]}) == 1
    assert await store.deliver([like], {liker: REVS[1]}) == 0
    assert await store.events() == (Counter({(author, "post", video): 1, (liker, "repost", video): 1}), 1)


@pytest.mark.exact
async def test_a_delivery_that_is_repeated_is_the_same_one(store: Store) -> None:
    await make_ready(store.pool)
    rows = [row_of(did, POST, "1", has_video=True) for did in DIDS]
    revs = dict.fromkeys(DIDS, REVS[0])
    assert [await store.deliver(rows, revs) for _ in range(2)] == [12, 12]
    assert await store.pool.fetchval("select count(*) from backfill.delivery") == 1
    assert (await store.events())[0].total() == 12
    job = await read_job(store.pool, "job")
    assert (job["stored"], job["records"]) == (12, 12)


async def test_a_like_waits_for_its_post(store: Store) -> None:
    """T002-43, T002-48"""
    await make_ready(store.pool)
    author, liker = DIDS[:2]
    video = f"at://{author}/{POST}/1"
    likes = [
        row_of(liker, LIKE, "1", video),
        row_of(liker, LIKE, "2", "at://x"),
        row_of(liker, LIKE, "3", None),
    ]
    await store.deliver(likes, {liker: REVS[0]})
    assert await store.events() == (Counter(), 3)
    await store.deliver([row_of(author, POST, "1", has_video=True)], {author: REVS[0]})
    events, others = await store.events()
    assert (events[liker, "like", video], events.total(), others) == (1, 2, 2)


async def test_an_account_that_was_given_up_is_stored_when_somebody_brings_it(store: Store) -> None:
    await make_ready(store.pool, DIDS[:1])
    await record_failures(store.pool, [Failure(DIDS[0], "refused", "", is_transient=False)], 3, 0.0)
    await store.deliver([row_of(DIDS[0], POST, "1")], {DIDS[0]: REVS[0]})
    job = await read_job(store.pool, "job")
    assert (job["stored"], job["failed"]) == (1, 0)


async def test_a_part_that_is_missing_is_named(store: Store) -> None:
    await make_ready(store.pool)
    await store.deliver([row_of(DIDS[0], POST, "1")], {DIDS[0]: REVS[0]})
    (part,) = (store.folder / "objects").rglob("*.parquet")
    part.unlink()
    with pytest.raises(Unavailable, match=part.name):
        await store.events()
