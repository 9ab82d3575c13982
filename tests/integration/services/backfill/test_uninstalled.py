"""Without the libraries of the extra everything else runs, and the backfill answers what to install."""

import pytest

from services.backfill import app
from services.worker import app as worker
from tally.client import Unimplemented
from tests.support.stack import OpenService


async def test_without_its_libraries_the_backfill_answers_what_to_install(
    open_service: OpenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "EXTRA", ("a_library_that_is_not_there",))
    monkeypatch.setattr(worker, "FETCH_REPO_NEEDS", ("a_library_that_is_not_there",))
    async with open_service("all") as stack:
        install = r"pip install 'tally-services\[backfill\]'"
        with pytest.raises(Unimplemented, match=install):
            await stack.client.backfill.get_job()
        with pytest.raises(Unimplemented, match=install):
            await stack.client.backfill.create_job("job", ["did:web:example.com"])
        with pytest.raises(Unimplemented, match=install):
            [bucket async for bucket in stack.client.backfill.count_dataset()]
        assert await stack.client.health(app.NAME) == "SERVING"
        assert (await stack.client.count("video")).accepted_count == 1


async def test_with_them_all_services_run_in_one_process(open_service: OpenService) -> None:
    async with open_service("all") as stack:
        created = await stack.client.backfill.create_job("job", ["did:web:localhost"])
        assert (created.job.repo_count, created.was_there) == (1, False)
        assert [job.job_id async for job in stack.client.backfill.list_jobs()] == ["job"]
        buckets = [bucket async for bucket in stack.client.backfill.count_dataset(timeout=30)]
        assert [bucket.bucket for bucket in buckets] == list(range(64))
        assert not any(bucket.total_count for bucket in buckets)
