"""Sends one batch, from its first attempt to its result.

What must hold (the service counts the events of one id once, so all of it is about the id):
- the id is made at the first attempt, and every attempt sends the same bytes under it;
- it is made anew only if no attempt went without an answer: otherwise the events could count twice;
- so after an attempt without an answer there are two ends: a receipt, or OutcomeUnknown.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import NoReturn

from tally.client._calls.backoffs import OF_BATCHES
from tally.client._calls.tracing import NO_TRACING, Tracing
from tally.client._delivery.breaker import WaitingBreaker
from tally.client._delivery.doubt import held_back, in_view_of, may_have_counted
from tally.client._delivery.transport import Transport
from tally.client._delivery.waiting_budget import WaitingBudget
from tally.client.answers import Receipt
from tally.client.columns import Batch, Columns
from tally.client.errors import BufferFull, NotSent, OutcomeUnknown, StillSending
from tally.client.request_id import RequestIds
from tally.contract.backoff import spread_s
from tally.contract.errors import OutOfRange, Overloaded, RequestIdReused, TallyError
from tally.contract.request_id import HORIZON_MS

_LOGGER = logging.getLogger("tally.client")

LONGEST_PATIENCE_S = HORIZON_MS / 1_000 - 5 * 60
"""How long a request may be tried: the last attempt still has its time until the service refuses the id."""
_MOST_RENEWALS = 3
_WARNING_PAUSE_S = 60.0
_FAIR_S = 4.0
"""A timeout of an attempt that had less time than this is no failure of the service. The default of a call is
a little more."""


@dataclass(slots=True)
class Delivery:
    """The progress of a request. It outlives the sending, so that the caller can report it after cancelling that."""

    batch: Batch | None = None
    """None: never sent"""
    is_in_doubt: bool = False
    """whether an attempt is under way or went without an answer"""
    error: TallyError | None = None
    """how the last attempt ended"""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop trying. `patience_s` holds for all attempts together, `attempt_s` for each."""

    patience_s: float
    attempt_s: float
    attempts: int | None = None


class Sender:
    """Sends batches over a transport; the breaker, the retry budget and the ids are those of one client."""

    def __init__(self, transport: Transport, request_ids: RequestIds, tracing: Tracing = NO_TRACING) -> None:
        """To be called in the event loop, to which it belongs."""
        self._tracing = tracing
        self._transport = transport
        self._request_ids = request_ids
        self._now = asyncio.get_running_loop().time
        self._breaker = WaitingBreaker(self._now)
        self._budget = WaitingBudget(self._now)
        self._closing = asyncio.Event()
        self._warn_again_at = 0.0
        self.retries = 0
        """attempts beyond the first of their request"""

    def close(self) -> None:
        """Make no further attempts: a caller that waits for the next one gets the error of the last."""
        self._closing.set()
        self._breaker.give_way()
        self._budget.give_way()

    async def send(
        self, columns: Columns, limits: Limits, delivery: Delivery, *, request_id: str | None = None
    ) -> Receipt:
        """Send until there is an answer. `request_id`: the caller's own, which is never replaced.

        Raises OutcomeUnknown, NotSent if the patience ended before the first attempt under a new id, Overloaded if
        the service asked to wait until it ended, and what the transport raises for a request that can not be accepted.
        """
        with self._tracing.batch(len(columns)):
            return await self._send(columns, limits, delivery, request_id)

    async def _send(
        self, columns: Columns, limits: Limits, delivery: Delivery, request_id: str | None
    ) -> Receipt:
        until = self._now() + min(limits.patience_s, LONGEST_PATIENCE_S)
        batch = Batch(request_id, columns) if request_id else None
        renewals = attempts = 0
        is_paid = False
        self._budget.earn()
        while True:
            life = await self._enter(until, delivery, batch, is_paid=is_paid)
            batch = batch or Batch(self._request_ids.make(), columns)
            try:
                receipt = await self._attempt(
                    batch, min(limits.attempt_s, until - self._now()), delivery, life
                )
                if is_paid:
                    self._budget.give_back()
                return receipt
            except OutOfRange as error:
                if error.server_time_us is not None:
                    self._request_ids.learn(error.server_time_us)
                is_about_id = any(violation.field == "request_id" for violation in error.violations)
                if request_id or delivery.is_in_doubt or not is_about_id or renewals == _MOST_RENEWALS:
                    _conclude(delivery, error)
                renewals += 1
                batch, is_paid = None, False
            except (OutcomeUnknown, Overloaded) as error:
                # What the service asks for is no attempt that failed, and costs no token: it knows its load, and
                # a client that it slows down all the time would otherwise come to a stand.
                delay_s = error.retry_after_s if isinstance(error, Overloaded) else None
                is_paid = delay_s is None
                attempts += is_paid
                wait_s = OF_BATCHES.pause_s(attempts - 1) if delay_s is None else spread_s(delay_s)
                is_over = attempts == limits.attempts or self._now() + wait_s >= until
                if is_over or await self._closes_within(wait_s):
                    _conclude(delivery, error)
                self.retries += 1
            except TallyError as error:
                if request_id and isinstance(error, RequestIdReused):
                    raise  # of an id that the caller made, he knows for what
                _conclude(delivery, error)

    async def _enter(self, until: float, delivery: Delivery, batch: Batch | None, *, is_paid: bool) -> int:
        """Wait for a token, if the attempt costs one, and for the breaker. `batch`: None if its id is to be made."""
        try:
            async with asyncio.timeout_at(until):
                if is_paid:
                    await self._budget.take()
                try:
                    life = await self._breaker.enter()
                except BaseException:
                    if is_paid:
                        self._budget.give_back()
                    raise
        except TimeoutError:
            if delivery.error is not None:
                _conclude(delivery, delivery.error)
            raise held_back(batch) from None
        if self._closing.is_set() and delivery.error is not None:
            _conclude(delivery, delivery.error)
        return life

    async def _attempt(self, batch: Batch, timeout_s: float, delivery: Delivery, life: int) -> Receipt:
        """One attempt. What it leaves in `delivery` holds also if it is cut off."""
        has_failed: bool | None = None
        was_in_doubt = delivery.is_in_doubt
        try:
            delivery.batch, delivery.is_in_doubt = batch, True
            answer = await self._transport.send(batch, timeout_s)
            receipt = answer.of_request(batch.request_id, len(batch.columns))
        except TallyError as error:
            if isinstance(error, OutcomeUnknown):
                is_hasty = error.reason == "DEADLINE_EXCEEDED" and timeout_s < _FAIR_S
                has_failed = None if is_hasty else True
            elif error.request_ids:  # without one it is this client's own, who did not ask the service
                has_failed = False
            delivery.error = error
            if not may_have_counted(error):
                delivery.is_in_doubt = was_in_doubt
            raise
        else:
            has_failed = False
            return receipt
        finally:
            if self._breaker.leave(life, has_failed=has_failed):
                self._warn(delivery)

    def _warn(self, delivery: Delivery) -> None:
        """Nothing has answered for a while: say so, but not all the time."""
        if self._now() >= self._warn_again_at:
            self._warn_again_at = self._now() + _WARNING_PAUSE_S
            _LOGGER.warning("no answers, and events wait%s", last_attempt(delivery.error))

    async def _closes_within(self, wait_s: float) -> bool:
        """Wait, unless the client is closed meanwhile."""
        try:
            async with asyncio.timeout(wait_s):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True


def _conclude(delivery: Delivery, error: TallyError) -> NoReturn:
    """Raise the error that ends a request."""
    batch = delivery.batch
    final = in_view_of(batch, error) if batch and delivery.is_in_doubt else error
    if final is error:
        raise error
    raise final from error


def cut_off(delivery: Delivery, reason: str, why: str) -> TallyError:
    """The error of a request that is given up where it stands: unknown, or never sent."""
    if delivery.batch is None or not delivery.is_in_doubt:
        return NotSent(f"{why}; the event was not sent, and is not counted", reason=reason)
    unknown = OutcomeUnknown(
        f"{why}; whether the event was counted is not known{last_attempt(delivery.error)}",
        reason=reason,
        request_ids=(delivery.batch.request_id,),
        unreachable=None if delivery.error is None else delivery.error.unreachable,
    )
    unknown.batches = (delivery.batch,)
    return unknown


def last_attempt(error: TallyError | None) -> str:
    """The error of the last attempt, in brackets; empty if it has no message."""
    why = error.why if isinstance(error, OutcomeUnknown) and error.why else error and error.message
    return f" (the last attempt: {why})" if why else ""


def still_sending(delivery: Delivery | None, timeout_s: float) -> TallyError:
    """The error of a caller who waits no longer for the receipt of an event. None: the buffer had no room for it."""
    if delivery is None:
        return BufferFull(
            f"the buffer had no room within {timeout_s:.3g} s; the event was not taken", reason="BUFFER_FULL"
        )
    last = delivery.error
    still = StillSending(
        f"no receipt within {timeout_s:.3g} s; the client goes on sending the event until it is closed"
        f"{last_attempt(last)}. Do not send it again: flush() and close() tell what becomes of it",
        reason=last.reason if last else "DEADLINE_EXCEEDED",
        unreachable=last.unreachable if last else None,
    )
    if delivery.batch:
        still.batches = (delivery.batch,)
    return still
