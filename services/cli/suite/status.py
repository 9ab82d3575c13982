"""`tally status`: whether everything works, and which part does not."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from services.cli.scheduler.lists import read_all
from services.cli.scheduler.workers import show_workers
from services.cli.terminal.calling import call
from services.cli.terminal.connecting import client_options
from services.cli.terminal.output import make_table, open_console, write_json
from services.registry import BY_NAME, SERVICES
from tally.client import Audit, Client, Cluster, Grains, Log, ShardPartitions, TallyError
from tally.client.scheduler import JobStatus, Worker

T = TypeVar("T")

_SERVING = "SERVING"
_UNREACHABLE = "UNREACHABLE"
_WRONG_CLUSTER = "WRONG_CLUSTER"
_MOST_UNROLLED_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Shard:
    """What the partitioner says of a shard, and what the shard says of itself."""

    address: str
    health: str
    partitions: tuple[int, ...]


@dataclass(slots=True)
class Status:
    """What could be found out."""

    services: dict[str, str] = field(default_factory=dict)
    """the health of each at the address"""
    shards: list[Shard] = field(default_factory=list)
    logs: tuple[Log, ...] = ()
    audit: Audit | None = None
    grains: Grains | None = None
    workers: list[Worker] = field(default_factory=list)
    """those that ask the scheduler for work; they serve nothing, and are known by that"""
    jobs: list[JobStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """what is not well, in words"""


def read_status(address: str) -> Status:
    """Ask everything. Raises Failure when nothing answers at all; what else fails is among the problems."""
    return call(address, _read)


def to_json(status: Status) -> str:
    """The status for programs; `problems` is empty when all is well."""
    return write_json(status)


def show(status: Status) -> None:
    """The status as tables on standard output."""
    console = open_console()
    table = make_table(console, "Services", "service", "health")
    for name, health in status.services.items():
        table.add_row(name, health)
    console.print(table)

    table = make_table(console, "Shards", "address", "health", "#partitions", "which")
    for shard in status.shards:
        table.add_row(shard.address, shard.health, str(len(shard.partitions)), _ranges(shard.partitions))
    console.print(table)

    table = make_table(console, "Logs", "#log", "shard", "state", "#applied", "#last entry", "#lag")
    for log in status.logs:
        sequence = (str(log.applied_seq), str(log.last_seq))
        table.add_row(str(log.log_id), log.shard, log.state, *sequence, f"{log.lag_s:.1f} s")
    console.print(table)

    if status.grains:
        table = make_table(console, "Rollups", "grain", "#generations", "#runs", "#cells", "#events", "#MB")
        for grain in status.grains.grains:
            held = (grain.generations, grain.runs, grain.cells, grain.events)
            table.add_row(grain.name, *map(str, held), f"{grain.byte_count / 1e6:.1f}")
        console.print(table)

    if status.jobs:
        show_workers(status.workers)

    if status.audit:
        headings = ("#journaled, as far as applied", "#in the rollups", "#dead", "#replayed", "#discrepancy")
        table = make_table(console, "Events", *headings)
        audit = status.audit
        numbers = (audit.journaled_events, audit.counted_events, audit.dead_events, audit.replayed_events)
        table.add_row(*map(str, numbers), str(audit.discrepancy_events))
        console.print(table)


async def _read(client: Client) -> Status:
    status = Status()
    for service in SERVICES:
        for routed in service.routed:
            status.services[routed.full_name] = await client.health(routed.full_name)
    problems = status.problems
    problems += [f"{name} is {health}" for name, health in status.services.items() if health != _SERVING]
    if partition_map := await _ask(client.partition_map(), problems, "the partition map"):
        status.shards = [
            await _read_shard(shard, partition_map.cluster, problems) for shard in partition_map.shards
        ]
    problems += [
        f"shard {each.address} is {each.health}" for each in status.shards if each.health != _SERVING
    ]
    status.logs = await _ask(client.list_logs(), problems, "the logs") or ()
    status.grains = await _ask(client.list_grains(), problems, "the grains")
    if status.grains and status.grains.unrolled_s > _MOST_UNROLLED_S:
        problems.append(
            f"{status.grains.unrolled_generations} sealed generations are not rolled up, the oldest for "
            f"{status.grains.unrolled_s:,.0f} s: reads take their minutes. See the log of the shards"
        )
    status.audit = await _ask(client.audit(), problems, "the audit")
    if status.audit and status.audit.discrepancy_events:
        problems.append(f"the discrepancy is {status.audit.discrepancy_events} events and must be 0")
    if all(status.services[each.full_name] == _SERVING for each in BY_NAME["scheduler"].routed):
        await _read_work(client, status)
    return status


async def _read_work(client: Client, status: Status) -> None:
    scheduler, problems = client.scheduler, status.problems
    status.jobs = (
        await _ask(
            read_all(lambda size, token: scheduler.list_jobs(page_size=size, page_token=token)),
            problems,
            "the jobs",
        )
        or []
    )
    status.workers = (
        await _ask(
            read_all(lambda size, token: scheduler.list_workers(page_size=size, page_token=token)),
            problems,
            "the workers",
        )
        or []
    )
    offered = {handler for worker in status.workers for handler in worker.handlers}
    problems += [
        f"no worker has the handler {each.job.handler}, which job {each.job.name} needs"
        for each in status.jobs
        if each.job.handler not in offered
    ]


async def _ask(answer: Awaitable[T], problems: list[str], what: str) -> T | None:
    try:
        return await answer
    except TallyError as error:
        problems.append(f"{what} cannot be read: {error.message}")
        return None


async def _read_shard(shard: ShardPartitions, cluster: Cluster | None, problems: list[str]) -> Shard:
    """Asks the shard itself, at the address that the partitioner uses."""
    try:
        async with Client(shard.address, **client_options()) as client:
            health = await client.health(BY_NAME["counting"].health)
            if health == _SERVING and (found := await client.counting.get_cluster()) != cluster:
                health = _WRONG_CLUSTER
                problems.append(f"shard {shard.address} belongs to {found}, and the partitioner to {cluster}")
    except TallyError:
        health = _UNREACHABLE
    return Shard(shard.address, health, shard.partitions)


def _ranges(numbers: tuple[int, ...]) -> str:
    """Ascending numbers in short: `0-7, 12`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(str(end) for end in each) for each in ranges)
