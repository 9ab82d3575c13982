"""A commit in one process wakes the senders of the others, for as long as the service runs."""

from pathlib import Path

from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.replication.lanes import Lanes
from services.replication.metrics import ReplicationMetrics
from services.replication.notices import Listener
from services.replication.settings import SenderSettings
from services.replication.snapshot_import import SnapshotImporter
from tests.support.lanes import Clock, LaneUnderTest
from tests.support.regions import FAST, Pair, open_region, region_database
from tests.support.servers import Servers

PATIENT = FAST.model_copy(update={"sender": SenderSettings(poll_seconds=60.0, idle_pass_seconds=600.0)})


async def test_what_was_closed_begins_nothing_in_a_turn_that_comes_later(
    servers: Servers, template: str, tmp_path: Path
) -> None:
    """A service that stops closes them before its loops end."""
    async with (
        region_database(servers.postgres_dsn, template) as owner,
        region_database(servers.postgres_dsn, template) as receiver,
        LaneUnderTest(owner, receiver, tmp_path, FAST) as lane,
    ):
        listener = Listener(owner, PostgresSettings(), lambda: None)
        importer = SnapshotImporter(lane.receiver, FAST, lane.peer, tmp_path)
        metrics = ReplicationMetrics(OFF, Clock())
        lanes = Lanes(lane.receiver, lane.receiver, FAST, metrics, lane.peer, importer)
        await listener.turn()
        await lanes.reconcile()
        assert len(lanes._tasks) == 2
        opened = listener._connection
        listener.close()
        await lanes.close()
        await listener.turn()
        await lanes.reconcile()
        assert listener._connection is opened
        assert not lanes._tasks


async def test_a_commit_in_another_process_of_the_region_is_sent_at_once(
    servers: Servers, template: str, valkey_url: str, tmp_path: Path
) -> None:
    """T003-46: the notification follows the commit. The sender itself looks once a minute here."""
    async with (
        region_database(servers.postgres_dsn, template) as first,
        region_database(servers.postgres_dsn, template) as second,
        open_region(first, valkey_url, tmp_path / "sender", PATIENT) as sender,
        open_region(first, valkey_url, tmp_path / "writer", PATIENT) as writer,
        open_region(second, valkey_url, tmp_path / "receiver", PATIENT) as receiver,
    ):
        await sender.follow(receiver)
        await receiver.follow(sender)
        pair = Pair(writer, receiver)
        await pair.until_watermark()
        location = await writer.put_location()
        await pair.until_equal()
        await writer.index(location, pair.make_entries(5))
        await pair.until_equal()
