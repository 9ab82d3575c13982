"""The population of repositories: slots that share a host, and members that are wanted until they have an outcome."""

from collections import Counter
from collections.abc import Mapping

import pytest

from services.scheduler.job_rules import read_definition
from services.scheduler.leases import Ask, Lease
from services.scheduler.membership import REPOS, Put, put_members
from services.scheduler.outcomes import ItemOutcome, Outcome
from services.scheduler.reports import Report
from tally.contract.errors import InvalidRequest
from tally.scheduler.v1 import job_pb2 as pb
from tests.integration.services.scheduler.scheduling import Scene, begin_key, ids_of

JOB = {
    "name": "backfill",
    "population": "repo",
    "where": {"is_wanted": True},
    "handler": "fetch_repo",
    "batch": 10,
    "slot_size": 10,
}


async def put(scene: Scene, hosts: Mapping[int, int]) -> Put:
    """Put so many repositories of each host."""
    rows = [(f"did:{host}:{n:04}", host, True) for host, count in hosts.items() for n in range(count)]
    return await put_members(scene.pool, REPOS, rows, scene.clock.at)


async def lease(scene: Scene, number: int) -> Lease | None:
    return await scene.one.leases.lease(Ask("w", number, {"fetch_repo": ()}), 0)


def hosts_of(lease: Lease) -> list[int]:
    return sorted({member.key.sync_bin for batch in lease.batches for member in batch})


async def test_members_of_different_hosts_share_no_slot(scene: Scene) -> None:
    """T002-38"""
    await put(scene, {1: 25, 3: 10, 4: 1})
    run_id = await scene.plan(**JOB)
    slots = await scene.slots(run_id)
    assert [slot["members"] for slot in slots] == [10, 10, 5, 10, 1]
    assert [slot["upper_id"] for slot in slots] == ["did:1:0009", "did:1:0019", "", "", ""]
    scene.to_the_end_of_the_window()
    leases = [found for number in range(1, 7) if (found := await lease(scene, number)) is not None]
    assert [hosts_of(each) for each in leases] == [[1], [1], [1], [3], [4]]
    everybody = [each for found in leases for each in ids_of(found.batches)]
    assert len(everybody) == len(set(everybody)) == 36


async def test_one_who_comes_before_the_lease_is_in_the_slot_of_its_host(scene: Scene) -> None:
    await put(scene, {1: 5, 2: 5})
    await scene.plan(**JOB)
    await put_members(scene.pool, REPOS, [("did:zzz", 1, True), ("did:aaa", 2, True)], scene.clock.at)
    scene.to_the_end_of_the_window()
    first, second = await lease(scene, 1), await lease(scene, 2)
    assert first is not None
    assert second is not None
    assert (len(ids_of(first.batches)), hosts_of(first)) == (6, [1])
    assert (len(ids_of(second.batches)), hosts_of(second)) == (6, [2])


async def test_a_member_is_wanted_until_it_has_an_outcome_other_than_retry(scene: Scene) -> None:
    await put(scene, {1: 4})
    await scene.plan(**JOB)
    scene.to_the_end_of_the_window()
    found = await lease(scene, 1)
    assert found is not None
    ids = ids_of(found.batches)
    outcomes = [Outcome.SYNCED, Outcome.RETRY, Outcome.FAILED, Outcome.GONE]
    items = [ItemOutcome(each, outcome) for each, outcome in zip(ids, outcomes, strict=True)]
    await scene.one.reports.report(Report(found.slot.id, found.token, begin_key(found, 0), items))
    rows = await scene.pool.fetch("select did, is_wanted, gone, synced_at from scheduler.repo order by did")
    assert [row["is_wanted"] for row in rows] == [False, True, False, False]
    assert [row["gone"] for row in rows] == [False, False, False, True]
    assert [row["synced_at"] is None for row in rows] == [False, True, True, True]
    again = await scene.plan(**JOB)
    assert [slot["members"] for slot in await scene.slots(again)] == [1]
    assert await put(scene, {1: 4}) == Put(0, 3, 1)
    assert Counter(row["is_wanted"] for row in await scene.pool.fetch("select * from scheduler.repo")) == {
        True: 4
    }


def test_a_job_over_repositories_selects_all_bins() -> None:
    job = pb.Job(
        name="backfill",
        rationale="a test",
        sla_hours=24 * 30,
        population="repo",
        handler="fetch_repo",
        cadence=pb.Cadence(preset="weekly"),
    )
    with pytest.raises(InvalidRequest, match="bin_max of 1"):
        read_definition(job, {}, 50_400)
