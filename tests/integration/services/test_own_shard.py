"""The process that holds everything: its partitioner has one shard, in the same process."""

from pathlib import Path

import pytest

from services.partitioner.settings import PartitionerSettings
from tally.client import Client
from tally.contract.errors import NotReady
from tests.support.proof import assert_exact
from tests.support.stack import OpenService, open_stack

pytestmark = pytest.mark.exact


async def test_other_shards_than_its_own_are_refused(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    overrides = {"partitioner": PartitionerSettings(shards=("elsewhere:50051",))}
    with pytest.raises(NotReady, match="unset TALLY_PARTITIONER__SHARDS"):
        async with open_stack(dsn, valkey_url, tmp_path, overrides=overrides):
            pass


async def test_its_shard_is_there_for_clients_that_cut_for_themselves(
    open_service: OpenService, dsn: str
) -> None:
    async with open_service("all") as stack:
        (shard,) = (await stack.client.partition_map()).shards
        assert shard.address.startswith("unix:")
        async with Client(stack.address, transport="direct") as direct:
            assert (await direct.count("video")).accepted_count == 1
        await stack.client.count("video")
        await assert_exact(dsn, {("video", "view"): 2})
