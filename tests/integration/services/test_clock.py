"""A machine whose clock differs from Postgres's."""

import time

import pytest
from structlog.testing import capture_logs

from libs.stores.server_clock import ServerClock
from services.process import clock, life
from tests.support.eventually import eventually
from tests.support.glitch import install_glitch, set_clock
from tests.support.proof import assert_exact, open_proof
from tests.support.rollups import read_rollups
from tests.support.stack import OpenService

_SERVICES = (
    "tally.counting.v1.CountingService",
    "tally.ingest.v1.IngestService",
    "tally.query.v1.QueryService",
)


async def test_nothing_is_ready_while_the_machines_clock_is_off(
    open_service: OpenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [0.0]
    monkeypatch.setattr(life, "ServerClock", lambda: ServerClock(lambda: time.time() + ahead[0]))
    monkeypatch.setattr(clock, "_CLOCK_SECONDS", 0.05)
    async with open_service("all") as stack:

        async def health() -> set[str]:
            return {await stack.client.health(name) for name in ("", *_SERVICES)}

        async def serves() -> bool:
            return await health() == {"SERVING"}

        async def is_unready() -> bool:
            return await health() == {"NOT_SERVING"}

        await eventually(serves)
        with capture_logs() as logs:
            for ahead[0] in (3.0, -3.0):
                await eventually(is_unready)
            ahead[0] = 0.5
            await eventually(serves)
        # Services judge by Postgres's time in any case.
        await stack.client.count("video")
    told = [log for log in logs if "clock" in log["event"]]
    assert [log["log_level"] for log in told] == ["error", "info"]
    assert told[0]["offset_seconds"] == pytest.approx(3.0, abs=1.0)


@pytest.mark.parametrize("ahead_s", [40 * 86_400.0, -40 * 86_400.0])
async def test_while_postgres_clock_alone_is_wrong_nothing_is_ready_and_no_sound_request_is_refused(
    open_service: OpenService, dsn: str, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    monkeypatch.setattr(clock, "_CLOCK_SECONDS", 0.05)
    async with open_proof(dsn) as connection:
        await install_glitch(connection)
        async with open_service("all") as stack:

            async def health() -> str:
                return await stack.client.health(_SERVICES[0])

            async def is_unready() -> bool:
                return await health() == "NOT_SERVING"

            async def serves() -> bool:
                return await health() == "SERVING"

            await set_clock(connection, ahead_s)
            await eventually(is_unready)
            assert (await stack.client.count("video")).accepted_count == 1
            await set_clock(connection, 0.0)
            await eventually(serves)
            await stack.client.count("video")
            await assert_exact(dsn, {("video", "view"): 2})
            minutes = [key.minute for key in await read_rollups(connection)]
            assert max(minutes) - min(minutes) <= 1
