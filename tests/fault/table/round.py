"""A round: load, a fault, rest, and then the database is compared with what the clients were told."""

import asyncio
import random
import traceback
from dataclasses import dataclass

import asyncpg

from tests.fault.table import invariants
from tests.fault.table.deployment import Deployment
from tests.fault.table.ledger import Ledger
from tests.fault.table.load import Load, Pace
from tests.fault.table.scene import Fault, Scene
from tests.fault.table.watch import Watch
from tests.support.eventually import eventually
from tests.support.proof import find_wrong, is_applied
from tests.support.reach import open_client

_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 3.0
"""under load before the fault, and when it is mended"""
_RECOVERY_SECONDS = 15.0
_MOST = 5
"""sentences about what clients and eyes saw"""
_REST_SECONDS = 45.0
"""by then everything must be applied"""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report."""

    fault: str
    requests: int
    acknowledged: int
    unknown: int
    duplicates: int
    failed: int
    reads: int
    failed_reads: int
    served_seconds: float | None
    recovered_seconds: float | None
    notes: tuple[str, ...]
    wrong: tuple[str, ...]


async def run_round(
    fault: Fault, deployment: Deployment, number: int, chance: random.Random, pace: Pace
) -> Row:
    """Run a fault under load and check everything. `number` tells the round's videos from those of others."""
    prefix = f"{number:03}/"
    load = Load(deployment.doors, prefix, chance)
    watch = Watch(deployment.dsn, deployment.doors.partition_count, load.ledger, prefix, chance)
    scene = Scene(deployment, load, watch, prefix, chance)
    async with watch.running(deployment.doors.door):
        async with load.running(pace):
            await asyncio.sleep(_BEFORE_SECONDS)
            await _strike(fault, scene)
            await asyncio.sleep(_AFTER_SECONDS)
            await watch.until_quiet(_RECOVERY_SECONDS)
        await watch.until_quiet(_REST_SECONDS)
        if not await _comes_to_rest(deployment.dsn, watch):
            scene.wrong.append(f"not everything was applied {_REST_SECONDS:g} s after the load had stopped")
    scene.wrong += await _check(deployment, load.ledger, prefix)
    return _judge(fault, scene, watch)


async def _strike(fault: Fault, scene: Scene) -> None:
    """A fault that cannot be done or undone is a broken line, and no end of the table."""
    try:
        await fault.run(scene)
    except Exception as error:  # noqa: BLE001 - whatever it was, it belongs into the report
        scene.wrong.append(f"the fault went wrong itself: {error!r}")
        traceback.print_exc()


async def _comes_to_rest(dsn: str, watch: Watch) -> bool:
    connection = await asyncpg.connect(dsn)

    async def is_at_rest() -> bool:
        return watch.is_quiet and await is_applied(connection)

    try:
        await eventually(is_at_rest, _REST_SECONDS)
    except AssertionError:
        return False
    finally:
        await connection.close()
    return True


async def _check(deployment: Deployment, ledger: Ledger, prefix: str) -> list[str]:
    connection = await asyncpg.connect(deployment.dsn)
    try:
        wrong = await invariants.check_counts(connection, ledger, prefix)
        wrong += await invariants.check_values(connection, prefix)
        wrong += await invariants.check_journal(connection, ledger, deployment.doors.partition_count)
        wrong += await invariants.check_strangers(connection, ledger, prefix)
        wrong += await find_wrong(connection)
        wrong += await invariants.check_snapshot(connection)
        if dead := await invariants.dead_events(connection, prefix):
            wrong.append(f"{dead} events wait as dead letters, and none of them was bad")
    finally:
        await connection.close()
    async with open_client(deployment.doors.door, timeout=30.0) as client:
        return wrong + await invariants.check_audit(client)


def _judge(fault: Fault, scene: Scene, watch: Watch) -> Row:
    ledger, struck_at = scene.load.ledger, scene.struck_at
    wrong = [*ledger.wrong[:_MOST], *watch.wrong[:_MOST], *scene.wrong]
    failed, failed_reads = ledger.failures.total(), watch.failed_reads.total()
    served = recovered = None
    if struck_at is not None:
        served = scene.load.served_again(struck_at)
        seen = [at for at in (watch.orphans_seen_at, watch.spooled_seen_at) if at is not None]
        recovered = max(0.0, *(at - struck_at for at in seen)) if seen else 0.0
        if served is None:
            wrong.append("after the fault not every partition took something")
        elif fault.served_within_seconds is not None and served > fault.served_within_seconds:
            wrong.append(f"served again after {served:.1f} s, not {fault.served_within_seconds:g}")
        if fault.recovered_within_seconds is not None and recovered > fault.recovered_within_seconds:
            wrong.append(f"recovered after {recovered:.1f} s, not {fault.recovered_within_seconds:g}")
    if failed and not fault.may_fail:
        wrong.append(f"no call may fail, and some did: {dict(ledger.failures)}")
    if failed_reads and not fault.may_fail_reads:
        wrong.append(f"no read may fail, and some did: {dict(watch.failed_reads)}")
    return Row(
        fault.name,
        len(ledger.requests),
        len(ledger.acknowledged),
        len(ledger.unknown),
        ledger.duplicates,
        failed,
        watch.reads,
        failed_reads,
        served,
        recovered,
        tuple(scene.notes),
        tuple(wrong),
    )
