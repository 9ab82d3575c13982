"""How long and how often a request is sent, and what holds it back. Time is virtual."""

import asyncio
from itertools import pairwise

import pytest

from tally.client import Batch, InvalidRequest, NotSent, OutcomeUnknown, Overloaded, Receipt
from tally.client._delivery.sending import LONGEST_PATIENCE_S, Delivery, Limits
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.sending import COLUMNS, FOR_EVER, ID, Case
from tests.unit.tally.transport import Transport, fail, never, overloaded, receipt_of, unanswered


@in_virtual_time
async def test_retries_go_on_until_five_minutes_before_the_horizon() -> None:
    case = Case()
    case.transport.turns.extend([never] * 10_000)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(OutcomeUnknown) as raised:
        await case.send(Limits(10 * LONGEST_PATIENCE_S, 20.0))
    assert 23.9 * 3600 < loop.time() - began <= 23 * 3600 + 55 * 60
    assert len({sent.payload for sent in case.transport.sent}) == 1
    (batch,) = raised.value.batches
    assert batch.payload == case.transport.sent[0].payload


@in_virtual_time
async def test_a_caller_may_set_a_shorter_limit() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered())] * 1000)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(60.0, 20.0))
    assert 50 < loop.time() - began <= 60


@in_virtual_time
async def test_an_attempt_has_no_more_time_than_the_request() -> None:
    case = Case()
    case.transport.turns.append(never)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(3.0, 20.0))
    assert loop.time() - began == pytest.approx(3.0)


@in_virtual_time
async def test_an_attempt_that_never_ends_is_followed_by_another() -> None:
    case = Case()
    case.transport.turns.append(never)
    await case.send()
    first, second = case.transport.sent
    assert first.payload == second.payload
    assert 20.0 <= second.at - first.at <= 20.2


@in_virtual_time
async def test_the_delay_that_an_overloaded_service_asks_for_is_kept() -> None:
    case = Case()
    case.transport.turns.extend([fail(overloaded(30.0))] * 50)
    await case.send(Limits(3600.0, 20.0, attempts=4))
    times = [sent.at for sent in case.transport.sent]
    assert len(times) == 51
    assert all(30.0 <= later - earlier <= 36.1 for earlier, later in pairwise(times))


@in_virtual_time
async def test_a_delay_beyond_the_limit_is_not_waited_for() -> None:
    case = Case()
    case.transport.turns.append(fail(overloaded(30.0)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Overloaded) as raised:
        await case.send(Limits(20.0, 20.0))
    assert raised.value.retry_after_s == 30.0
    assert loop.time() == began


@in_virtual_time
async def test_attempts_may_be_limited() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered())] * 10)
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(3600.0, 20.0, attempts=4))
    assert len(case.transport.sent) == 4


@in_virtual_time
async def test_a_service_that_does_not_answer_is_asked_once_a_second_by_one_request_at_a_time() -> None:
    case = Case()
    is_away = True

    async def turn(batch: Batch) -> Receipt:
        if is_away:
            raise unanswered()
        return await Transport().send(batch, 1.0)

    case.transport.turns.extend([turn] * 10_000)
    sending = [asyncio.create_task(case.sender.send(COLUMNS, FOR_EVER, Delivery())) for _ in range(20)]
    await asyncio.sleep(60)
    late = len(case.transport.sent)
    await asyncio.sleep(60)
    assert 0 < len(case.transport.sent) - late <= 61
    assert case.transport.most_under_way <= 20
    is_away = False
    await asyncio.gather(*sending)


@in_virtual_time
async def test_a_request_that_the_breaker_held_back_was_not_sent() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered())] * 10_000)
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(60.0, 20.0, attempts=5))
    count, delivery = len(case.transport.sent), Delivery()
    with pytest.raises(NotSent):
        await case.sender.send(COLUMNS, Limits(0.5, 0.5), delivery)
    assert len(case.transport.sent) == count
    assert delivery.batch is None


@in_virtual_time
async def test_what_the_client_itself_refuses_says_nothing_of_the_service() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered())] * 5)
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(60.0, 20.0, attempts=5))
    case.transport.turns.append(fail(InvalidRequest.of("request", "too many bytes")))
    with pytest.raises(InvalidRequest):
        await case.sender.send(COLUMNS, FOR_EVER, Delivery())
    case.transport.answer_s = 1.0
    await asyncio.gather(*(case.sender.send(COLUMNS, FOR_EVER, Delivery()) for _ in range(3)))
    probe, *others = case.transport.sent[-3:]
    assert all(other.at - probe.at >= 1.0 for other in others)


@pytest.mark.exact
@in_virtual_time
async def test_a_request_that_was_held_back_under_an_id_of_the_callers_own_stays_unknown() -> None:
    """He may have sent it before: then it may be in the journal."""
    case = Case()
    case.transport.turns.extend([fail(unanswered())] * 10_000)
    with pytest.raises(OutcomeUnknown):
        await case.send(Limits(60.0, 20.0, attempts=5), request_id=ID)
    count = len(case.transport.sent)
    with pytest.raises(OutcomeUnknown, match="send the same again under it") as raised:
        await case.sender.send(COLUMNS, Limits(0.5, 0.5), Delivery(), request_id=ID)
    assert len(case.transport.sent) == count
    assert (raised.value.reason, raised.value.request_ids) == ("BREAKER_OPEN", (ID,))


@in_virtual_time
async def test_a_caller_in_a_hurry_does_not_close_the_way_for_the_others() -> None:
    case = Case()
    case.transport.turns.extend([never] * 20)
    for _ in range(20):
        with pytest.raises(OutcomeUnknown):
            await case.sender.send(COLUMNS, Limits(0.1, 0.1), Delivery())
    began = asyncio.get_running_loop().time()
    await case.send()
    assert case.transport.sent[-1].at == began


@in_virtual_time
async def test_closing_ends_the_wait_for_the_next_attempt() -> None:
    case = Case()
    case.transport.turns.append(fail(overloaded(600.0)))
    sending = asyncio.create_task(case.send())
    await asyncio.sleep(1)
    case.sender.close()
    with pytest.raises(Overloaded):
        await sending
    assert len(case.transport.sent) == 1


@in_virtual_time
async def test_retries_that_fail_are_at_most_a_share_of_the_requests() -> None:
    """A fifth of them and one a second, once what was saved is used up."""
    case = Case()
    for _ in range(300):
        case.transport.turns.extend([fail(unanswered()), fail(unanswered())])
        await case.sender.send(COLUMNS, FOR_EVER, Delivery())
        await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    elapsed = loop.time() - case.transport.sent[0].at
    assert case.sender.retries == 600
    assert elapsed >= (300 - 10 - 0.2 * 300) / 1.0 - 1


@in_virtual_time
async def test_who_gives_up_leaves_nothing_to_wait_for_to_those_who_go_on() -> None:
    """A service that is away for half a second, with many callers in a hurry and some batches in the background."""
    case = Case()
    loop = asyncio.get_running_loop()
    is_away = True

    async def turn(batch: Batch) -> Receipt:
        if is_away:
            raise unanswered()
        return receipt_of(batch)

    case.transport.turns.extend([turn] * 10_000)
    hasty = [
        asyncio.create_task(case.sender.send(COLUMNS, Limits(1.0, 1.0, attempts=4), Delivery()))
        for _ in range(300)
    ]
    patient = [asyncio.create_task(case.sender.send(COLUMNS, FOR_EVER, Delivery())) for _ in range(8)]
    await asyncio.sleep(0.5)
    is_away = False
    well_at = loop.time()
    await asyncio.gather(*patient)
    assert loop.time() - well_at < 2.0
    await asyncio.gather(*hasty, return_exceptions=True)


@in_virtual_time
async def test_an_attempt_that_is_the_last_takes_no_token() -> None:
    case = Case()
    for _ in range(30):
        case.transport.turns.append(fail(unanswered("DEADLINE_EXCEEDED")))
        with pytest.raises(OutcomeUnknown):
            await case.sender.send(COLUMNS, Limits(2.0, 2.0, attempts=1), Delivery())
    case.transport.turns.append(fail(unanswered()))
    began = asyncio.get_running_loop().time()
    await case.send()
    assert asyncio.get_running_loop().time() - began < 0.2


@in_virtual_time
async def test_a_retry_that_the_breaker_held_back_for_good_gives_its_token_back() -> None:
    case = Case()

    async def fail_together(_batch: Batch) -> Receipt:
        await asyncio.sleep(0.01)
        raise unanswered()

    case.transport.turns.extend([fail_together] * 10)

    async def send_ten(limits: Limits) -> None:
        sending = [case.sender.send(COLUMNS, limits, Delivery()) for _ in range(10)]
        ends = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(end, OutcomeUnknown) for end in ends)

    await send_ten(Limits(0.9, 0.9))
    assert len(case.transport.sent) == 10  # the breaker is open
    await asyncio.sleep(0.2)
    await case.send()
    case.transport.turns.extend([fail(unanswered("DEADLINE_EXCEEDED"))] * 20)
    began = asyncio.get_running_loop().time()
    await send_ten(Limits(3.0, 3.0, attempts=2))
    assert asyncio.get_running_loop().time() - began < 0.2


@in_virtual_time
async def test_many_who_wait_go_on_together_when_the_service_is_well_again() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered("DEADLINE_EXCEEDED"))] * 100)
    sending = [
        asyncio.create_task(case.sender.send(COLUMNS, Limits(3600.0, 2.0), Delivery())) for _ in range(100)
    ]
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*sending)
    assert asyncio.get_running_loop().time() - began < 5.0
    assert case.sender.retries == 100


@in_virtual_time
async def test_closing_ends_the_wait_for_a_token() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered("DEADLINE_EXCEEDED"))] * 10_000)
    sending = [
        asyncio.create_task(case.sender.send(COLUMNS, Limits(3600.0, 2.0), Delivery())) for _ in range(50)
    ]
    await asyncio.sleep(1)
    count = len(case.transport.sent)
    case.sender.close()
    ends = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), 0.1)
    assert all(isinstance(end, OutcomeUnknown) for end in ends)
    assert len(case.transport.sent) == count
