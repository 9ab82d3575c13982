"""The handler: a batch of accounts is fetched one after the other, and has its results when all of it is stored."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from libs.domain.clock import Clock
from libs.egress.session import open_session
from libs.runtime.context import Context
from libs.stores.objects import Objects
from services.worker.handlers.fetch_repo.checkpoint import Checkpoint
from services.worker.handlers.fetch_repo.delivery import Delivery
from services.worker.handlers.fetch_repo.fetching import Fetching, NotFetched
from services.worker.handlers.fetch_repo.storing import Storing
from services.worker.handlers.fetch_repo.verifying import verify
from services.worker.handlers.handler import CallFailed, Handler, Item, Outcome, Result
from services.worker.settings import WorkerSettings
from tally.backfill.v1 import delivery_pb2 as pb
from tally.contract.errors import TallyError

NAME = "fetch_repo"


class FetchRepo:
    """Fetches repositories. It is called in threads; all but verifying happens in the event loop of the process."""

    name = NAME
    columns: Sequence[str] = ()

    def __init__(self, fetching: Fetching, storing: Storing, delivery: Delivery, clock: Clock) -> None:
        self._fetching = fetching
        self._storing = storing
        self._delivery = delivery
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def handle(self, items: Sequence[Item]) -> Sequence[Result]:
        """The result of each account, once what was fetched is stored. Raises CallFailed."""
        return asyncio.run_coroutine_threadsafe(
            self._handle([item.id for item in items]), self._loop
        ).result()

    def close(self) -> None:
        """Does nothing: the opener closes what the handler uses."""

    async def _handle(self, dids: Sequence[str]) -> Sequence[Result]:
        try:
            accounts = await self._delivery.get_accounts(dids)
            failures = await self._fetch_all(accounts)
            given_up = await self._delivery.report_failures(list(failures.values()))
        except TallyError as error:
            raise CallFailed(f"the backfill service did not do it: {error.message}") from error
        results = [_result_of(failure, given_up) for failure in failures.values()]
        fetched = [account.did for account in accounts if account.did not in failures]
        await asyncio.gather(*(self._storing.stored(did) for did in fetched if self._storing.has(did)))
        results += [Result(did, Outcome.SYNCED) for did in fetched]
        asked = {account.did for account in accounts}
        # Stored or given up before, for another run or by a lease that was lost.
        return results + [Result(did, Outcome.UNCHANGED) for did in dids if did not in asked]

    async def _fetch_all(self, accounts: Sequence[pb.Account]) -> dict[str, pb.Failure]:
        """Fetch accounts, and keep them; what kept others from being fetched."""
        failures: dict[str, pb.Failure] = {}
        saving: asyncio.Task[None] | None = None
        with self._storing.fetching():
            for account in accounts:
                if self._storing.has(account.did):
                    continue
                try:
                    car = await self._fetching.fetch(account.host, account.did)
                    fetched = await asyncio.to_thread(
                        verify, car, account.did, account.key_type, account.key, self._clock.now_us()
                    )
                except NotFetched as error:
                    failures[account.did] = pb.Failure(
                        did=account.did, reason=error.reason, detail=str(error), transient=error.is_transient
                    )
                    continue
                if saving is not None:
                    await saving
                saving = asyncio.create_task(self._storing.add(fetched))
            if saving is not None:
                await saving
        return failures


def _result_of(failure: pb.Failure, given_up: set[str]) -> Result:
    outcome = Outcome.FAILED if failure.did in given_up else Outcome.RETRY
    return Result(failure.did, outcome, f"{failure.reason}: {failure.detail}")


@asynccontextmanager
async def open_fetch_repo(context: Context, settings: WorkerSettings) -> AsyncIterator[Handler]:
    """The handler, with its checkpoint in the data folder. Raises NotReady when the object store cannot be one."""
    objects = Objects(context.objects_url)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(settings.fetch.egress))
        delivery = Delivery(settings, context.telemetry)
        stack.push_async_callback(delivery.close)
        checkpoint = Checkpoint(context.data_dir / "fetched")
        stack.callback(checkpoint.close)
        storing = Storing(checkpoint, objects, delivery, context.clock, settings.fetch)
        loops = [
            context.background.start("checkpoint", storing.keep()),
            context.background.start("delivery", storing.deliver()),
        ]
        try:
            yield FetchRepo(
                Fetching(session, context.clock, settings.fetch, context.telemetry),
                storing,
                delivery,
                context.clock,
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)
