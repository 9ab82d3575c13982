"""A synchronous standby is lost: commits wait for ever, and so do server processes whose client has gone."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from libs.domain.entry import Outcome
from services.counting import shard as shard_module
from services.counting.journal.log import open_log
from services.counting.settings import JournalSettings
from tally.contract.errors import Unavailable
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.letters import bury_spooled, open_decisions
from tests.support.proof import open_proof
from tests.support.servers import breakable_postgres
from tests.support.shards import FAST, open_shard, quick, send
from tests.support.spooling import COUNTS, assert_drained, count_until_spooled

pytestmark = pytest.mark.exact

_ATTEMPTS = 5
_OF_DECISIONS = "select count(*) from pg_stat_activity where application_name = 'tally counting dead letters'"
_OF_LOGS = """
select count(*) from pg_stat_activity where application_name like any (array['%inserts%', '%flushes%'])"""


async def set_standby(connection: Any, name: str) -> None:
    """Let commits wait for a standby of that name; empty: for none."""
    await connection.execute(f"alter system set synchronous_standby_names = '{name}'")
    await connection.execute("select pg_reload_conf()")


async def test_attempts_to_open_a_log_leave_no_server_processes_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await open_log(*arguments, **options)

    monkeypatch.setattr(shard_module, "open_log", counted)
    monkeypatch.setattr(shard_module, "_MOST_REOPEN_SECONDS", 0.5)
    impatient = FAST.model_copy(update={"statement_timeout_seconds": 0.5, "transaction_timeout_seconds": 0.5})
    settings = quick(recovery=impatient).model_copy(
        update={"journal": JournalSettings(insert_timeout_seconds=0.5)}
    )
    acknowledged = Counter(COUNTS)
    async with (
        breakable_postgres(is_migrated=True) as postgres,
        open_proof(postgres.url) as connection,
        open_shard(postgres.url, settings, spool_folder=tmp_path) as shard,
    ):
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        await set_standby(connection, "lost")
        await count_until_spooled(shard, acknowledged)
        before, most = attempts, 0

        async def has_tried() -> bool:
            nonlocal most
            most = max(most, await connection.fetchval(_OF_LOGS))
            return attempts >= before + _ATTEMPTS

        await eventually(has_tried)
        # The two of an attempt, and for a moment those of the one before.
        assert most <= 4
        await set_standby(connection, "")
        await assert_drained(postgres.url, shard, acknowledged)


async def test_decisions_in_doubt_leave_no_server_processes_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with breakable_postgres(is_migrated=True) as postgres, open_proof(postgres.url) as connection:
        for _ in range(_ATTEMPTS):  # of one letter, each would wait for the row of the one before
            keys = await bury_spooled(connection, {("video", "view"): 1}, new_id())
        await set_standby(connection, "lost")
        decisions = open_decisions(postgres.url)
        monkeypatch.setattr(decisions, "_limit_seconds", 0.3)
        for key in keys:
            with pytest.raises(Unavailable):
                await decisions.drop(key)
            assert await connection.fetchval(_OF_DECISIONS) <= 2
        await set_standby(connection, "")
        for key in keys:
            assert (await decisions.drop(key)).letter["state"] == "dropped"
