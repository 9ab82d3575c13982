"""The background of a client: takes events from any thread, and sends them in batches on its event loop."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeAlias

from tally.client._buffering.blame import find_bad_events
from tally.client._buffering.buffer import Awaited, Buffer, Draft
from tally.client._buffering.ends import Ends, F, Progress
from tally.client._checks.rules import check_actor_id, check_event_type, check_video_id
from tally.client._delivery.sending import Limits, Sender, cut_off
from tally.client.batching import Batching
from tally.client.errors import BufferFull, ClientUnusable
from tally.contract.errors import InvalidRequest, OutOfRange, Overloaded, TallyError

ATTEMPT_TIMEOUT_S = 20.0
"""Timeout of one attempt. A slow service is slow for all requests; an early retry would add to its load."""


_Event: TypeAlias = tuple[str, str, int | None, float | None, str, F, Awaited | None]


class Batcher(Generic[F]):
    """Gathers events into drafts, and sends each as one request; see Batching for when.

    `add`, `is_full`, `has_much` and `progress` are for any thread; everything else belongs to the event loop.

    There is no lock. A signal or the garbage collector may come in anywhere in `add`, hand in an event of its own, or
    raise; so all that `add` changes is the inbox, by one step, and the loop does the rest.
    """

    def __init__(
        self,
        sender: Sender,
        batching: Batching,
        call_soon: Callable[[Callable[[], None]], object],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        """To be called in the event loop. `call_soon`: that of the loop, fit for the threads that call `add`.

        `on_room`: told in the loop when the buffer has room again, or is closed.
        """
        self._sender = sender
        self._batching = batching
        self._call_soon = call_soon
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._limits = Limits(batching.give_up_after_s, ATTEMPT_TIMEOUT_S)
        self._inbox: deque[_Event[F]] = deque()
        self._buffer: Buffer[F] = Buffer(batching, self._loop.time)
        self._laid_out = 0
        """events in drafts"""
        self._is_closed = False
        self._is_over = False
        """the inbox is not read any more"""
        self._enough = 1
        """the number of events in the inbox that wakes the loop"""
        self._turn = 0
        """how often the loop has begun to dispatch"""
        self._told_in = -1
        """the turn in which the loop was last told; in the same one it has not begun to see to that yet"""
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight: dict[Draft[F], asyncio.Task[None]] = {}
        self._flushing: dict[Draft[F], asyncio.Future[None]] = {}
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._ends: Ends[F] = Ends(self._leave)
        self._guard: AsyncGenerator[None, None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether `add` would find no room."""
        return self._buffered >= self._batching.max_buffered_events and not self._is_closed

    @property
    def has_much(self) -> bool:
        """Whether the loop should get a chance to send before more is handed in."""
        return len(self._inbox) >= self._batching.max_events

    @property
    def progress(self) -> Progress:
        """The progress of the events."""
        return self._ends.progress(self._buffered, len(self._in_flight), self._sender.retries)

    def add(
        self,
        video_id: str,
        event_type: str,
        time_us: int | None,
        value: float | None,
        actor_id: str,
        future: F,
        awaited: Awaited | None = None,
    ) -> None:
        """Take an event, and the future that will tell its end. `awaited`: of a caller who will wait for that.

        Raises InvalidRequest, BufferFull, and ClientUnusable after `close`: then the event was not taken. Threads that
        come at the same moment may together go beyond the limit of the buffer, by one event each.
        """
        check_video_id(video_id)
        check_event_type(event_type)
        if actor_id:
            check_actor_id(actor_id)
        if self._is_closed:
            raise _closed()
        if self._buffered >= self._batching.max_buffered_events:
            raise BufferFull(
                f"{self._buffered:,} events wait for their receipts, and the buffer takes no more. "
                "This one was not taken: hand it in again later",
                reason="BUFFER_FULL",
            )
        if value is not None:
            value = float(value)  # what is no number fails here, and not in the loop
        event = (video_id, event_type, time_us, value, actor_id, future, awaited)
        self._inbox.append(event)
        # The loop is told of the first event of a draft and of those that fill it, not of every event. That it was told
        # is noted afterwards: should this be cut short in between, the next one tells it again.
        if len(self._inbox) >= self._enough and self._told_in != (turn := self._turn):
            with suppress(RuntimeError):  # the loop is closed, and everything is over
                self._call_soon(self._dispatch)
            self._told_in = turn
        if self._is_over:  # closed between the first look and the inbox
            with suppress(ValueError):  # the loop has seen it, and its future tells its end
                self._inbox.remove(event)
                raise _closed()

    @property
    def _buffered(self) -> int:
        return len(self._inbox) + self._laid_out

    async def guard(self) -> None:
        """Let every event have its end also if the loop ends before `close`, as at the end of asyncio.run."""
        self._guard = self._end_with_loop()
        await anext(self._guard)

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:  # a loop ends its generators last, when all tasks that it had are cancelled
            self._is_closed = True
            late = list(self._in_flight.values())
            self._give_up()
            await asyncio.gather(*late, return_exceptions=True)

    async def wait_for_room(self) -> None:
        """Return when there may be room, or when the client is closed."""
        waiter = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():  # it was this one's turn: now it is the next one's
                self._admit()
            raise

    async def flush(self) -> None:
        """Send all that was handed in before, and wait until each event has its end.

        Raises the first error of an event whose caller does not wait, since the last flush that raised.
        """
        drafts = self._seal()
        if drafts:
            await asyncio.wait(drafts.values())
        loss = self._ends.take_loss()
        # Another flush may have taken the loss before this one woke up.
        if error := loss or next(filter(None, (draft.loss for draft in drafts)), None):
            raise error

    async def close(self, patience_s: float) -> None:
        """Take no more, and send what there is; what has no end after `patience_s` seconds is given up.

        Then raises OutcomeUnknown, or NotSent if of everything given up nothing can have been counted. If nothing was
        given up, raises as `flush` does.
        """
        self._is_closed = True
        self._admit()
        until = self._loop.time() + patience_s
        try:
            # Again, for a thread may have been on its way into the inbox.
            while (drafts := self._seal()) and (wait_s := until - self._loop.time()) > 0:
                await asyncio.wait(drafts.values(), timeout=wait_s)
        finally:
            late = list(self._in_flight.values())
            loss = self._ends.take_loss()
            given_up = self._give_up()
        await asyncio.gather(*late, return_exceptions=True)
        if self._guard is not None:
            await self._guard.aclose()
        if given_up is not None:
            raise given_up from loss
        if loss is not None:
            raise loss

    def _seal(self) -> "dict[Draft[F], asyncio.Future[None]]":
        """Let what waits go as soon as there is a place in flight; all that has no end yet, each with its end to be."""
        self._lay_out()
        drafts = {
            draft: self._flushing.setdefault(draft, self._loop.create_future())
            for draft in (*self._in_flight, *self._buffer.seal())
        }
        self._dispatch()
        return drafts

    def _lay_out(self) -> None:
        """Put what is in the inbox into drafts; not what comes meanwhile, of which there may be no end."""
        for _ in range(len(self._inbox)):
            self._laid_out += 1
            self._buffer.add(*self._inbox.popleft())

    def _dispatch(self) -> None:
        """Start the requests whose time has come."""
        if self._is_over:
            return
        self._turn += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lay_out()
        while len(self._in_flight) < self._batching.max_in_flight and (draft := self._take()):
            self._in_flight[draft] = task = self._loop.create_task(self._send(draft))
            task.add_done_callback(partial(self._conclude, draft))
        self._enough = self._buffer.room
        if len(self._inbox) >= self._enough:  # those who came before that was set may not have told
            self._loop.call_soon(self._dispatch)

    def _take(self) -> Draft[F] | None:
        """The next draft that may go. If only the linger holds it back, there will be another look after that."""
        since = self._buffer.open_since
        wait_s = 0.0
        if since is not None and self._in_flight:
            wait_s = since + self._batching.linger_s - self._loop.time()
        draft = self._buffer.take(also_open=wait_s <= 0)
        if draft is None and wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self._dispatch)
        return draft

    async def _send(self, draft: Draft[F]) -> None:
        """Send one draft; what has no end after that gets it from `_conclude`."""
        try:
            await self._send_good(draft)
        except Overloaded as last:
            why = f"the service was overloaded until the client gave up ({last.message})"
            self._ends.fail(draft, cut_off(draft.delivery, last.reason, why))
        except TallyError as last:
            self._ends.fail(draft, last)

    def _conclude(self, draft: Draft[F], task: asyncio.Task[None]) -> None:
        """Resolve all futures, whatever ended the task; it may not even have started."""
        if task.cancelled():
            error = cut_off(draft.delivery, "CLIENT_CANCELLED", "the task of its request was cancelled")
            self._ends.fail(draft, error)
        elif fault := task.exception():
            self._ends.fail(
                draft, cut_off(draft.delivery, "CLIENT_FAULT", f"the client failed with {fault!r}")
            )
        self._in_flight.pop(draft, None)
        self._tell_end(draft)
        self._dispatch()

    async def _send_good(self, draft: Draft[F]) -> None:
        """Send the draft; events that the service refuses leave it, and the others go under a new id."""
        while len(draft):
            columns = draft.layout.columns()
            try:
                receipt = await self._sender.send(columns, self._limits, draft.delivery)
            except (InvalidRequest, OutOfRange) as error:
                bad = {} if draft.delivery.is_in_doubt else find_bad_events(error.violations, columns)
                if not bad:
                    raise
                self._ends.refuse(draft, bad, error)
            else:
                self._ends.count(draft, receipt)

    def _give_up(self) -> TallyError | None:
        """Let everything fail that has no end yet; the error for the whole of it, if there was something."""
        self._is_over = True  # before the last look into the inbox, see `add`
        self._lay_out()
        drafts = [*self._in_flight, *self._buffer.drain()]
        error = self._ends.give_up(drafts)
        self._ends.take_loss()  # it is in the error
        for task in self._in_flight.values():
            task.cancel()
        self._in_flight.clear()
        for draft in drafts:
            self._tell_end(draft)
        return error

    def _tell_end(self, draft: Draft[F]) -> None:
        """Tell those who flush."""
        if end := self._flushing.pop(draft, None):
            end.set_result(None)

    def _leave(self, count: int) -> None:
        """So many events have their end."""
        self._laid_out -= count
        self._admit()

    def _admit(self) -> None:
        """Wake as many waiting callers as have room; on closing all of them, with an error."""
        room = self._batching.max_buffered_events - self._buffered
        while self._waiters and (room > 0 or self._is_closed):
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
        self._on_room()


def _closed() -> ClientUnusable:
    return ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
