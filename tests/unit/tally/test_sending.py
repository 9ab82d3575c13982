"""What a request goes through until it has its end. Time is virtual; the transport does as the test says."""

import asyncio
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import (
    Batch,
    Columns,
    Event,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    OutOfRange,
    Overloaded,
    Receipt,
    RequestIdReused,
    ServerFault,
    TallyError,
)
from tally.client.answers import Durability
from tally.client.request_id import RequestIds
from tally.client.sending import LONGEST_PATIENCE_S, Delivery, Limits, Sender, cut_off
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.transports import (
    Transport,
    fail,
    invalid,
    never,
    out_of_range,
    overloaded,
    receipt_of,
    shed,
    unanswered,
)

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
COLUMNS = Columns.of([Event("a"), Event("b")])
FOR_EVER = Limits(patience_s=LONGEST_PATIENCE_S, attempt_s=20.0)


class Case:
    """A sender with its transport, by a clock of its own that stands still."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.ids = RequestIds(now_us=lambda: NOW_US)
        self.sender = Sender(self.transport, self.ids)
        self.delivery = Delivery()

    async def send(self, limits: Limits = FOR_EVER, request_id: str | None = None) -> Receipt:
        return await self.sender.send(COLUMNS, limits, self.delivery, request_id=request_id)

    @property
    def sent_ids(self) -> list[str]:
        return [sent.request_id for sent in self.transport.sent]


def time_us_of(request_id: str) -> int:
    return (UUID(request_id).int >> 80) * 1000


@pytest.mark.exact
@in_virtual_time
async def test_after_an_attempt_without_an_answer_the_same_bytes_go_again() -> None:
    case = Case()
    case.transport.turns.extend(
        [fail(unanswered(reason)) for reason in ("UNAVAILABLE", "INTERNAL", "UNKNOWN")]
    )
    receipt = await case.send()
    assert len(case.transport.sent) == 4
    assert len({sent.payload for sent in case.transport.sent}) == 1
    assert {receipt.request_id} == set(case.sent_ids)
    assert case.sender.retries == 3


@in_virtual_time
async def test_an_id_out_of_range_is_made_anew_by_the_services_time() -> None:
    case = Case()
    case.transport.turns.append(fail(out_of_range(NOW_US + 30 * HOUR_US)))
    receipt = await case.send()
    first, second = case.sent_ids
    assert time_us_of(first) == NOW_US
    assert time_us_of(second) == NOW_US + 30 * HOUR_US
    assert receipt.request_id == second
    assert time_us_of(case.ids.make()) == NOW_US + 30 * HOUR_US


@pytest.mark.exact
@pytest.mark.parametrize("before", [unanswered(), unanswered("CANCELLED"), overloaded(1.0), overloaded()])
def test_an_id_is_never_made_anew_after_an_attempt_that_may_have_counted(before: TallyError) -> None:
    @in_virtual_time
    async def run() -> None:
        case = Case()
        case.transport.turns.extend([fail(before), fail(out_of_range(NOW_US + 30 * HOUR_US))])
        with pytest.raises(OutcomeUnknown) as raised:
            await case.send()
        assert len(set(case.sent_ids)) == 1
        assert raised.value.request_id == case.sent_ids[0]
        assert raised.value.reason == "OUT_OF_RANGE"

    run()


@pytest.mark.exact
@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                unanswered(),
                unanswered("DEADLINE_EXCEEDED"),
                overloaded(0.5),
                overloaded(),
                shed(0.5),
                shed(),
                out_of_range(NOW_US + HOUR_US),
                out_of_range(NOW_US - HOUR_US),
                invalid("columns.value[0]"),
                ServerFault("no", reason="PERMISSION_DENIED"),
            ]
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_whatever_happens_events_can_count_only_under_one_id(
    turns: list[TallyError], has_own_id: bool
) -> None:
    """An attempt without an answer, or an overloaded one, may have counted, unless it was refused at the door; so may
    the one with the receipt."""

    @in_virtual_time
    async def run() -> None:
        case = Case()
        case.transport.turns.extend(fail(error) for error in turns)
        end: Receipt | TallyError
        try:
            end = await case.send(request_id=ID if has_own_id else None)
        except TallyError as error:
            end = error
        counted = {
            sent.payload
            for sent, turn in zip(case.transport.sent, [*turns, None], strict=False)
            if turn is None
            or isinstance(turn, OutcomeUnknown)
            or (isinstance(turn, Overloaded) and not turn.metadata)
        }
        assert len(counted) <= 1
        if has_own_id:
            assert set(case.sent_ids) <= {ID}
        if counted:
            assert isinstance(end, Receipt | OutcomeUnknown | Overloaded)
            assert case.delivery.batch is not None
            assert counted == {case.delivery.batch.payload}
        else:
            assert not isinstance(end, Receipt | OutcomeUnknown)
            assert not isinstance(end, Overloaded) or end.counted_nothing

    run()


@in_virtual_time
async def test_an_attempt_that_was_refused_at_the_door_leaves_no_doubt() -> None:
    case = Case()
    case.transport.turns.extend([fail(shed(1.0)), fail(invalid("columns.value[0]"))])
    with pytest.raises(InvalidRequest):
        await case.send()
    assert not case.delivery.is_in_doubt

    other = Case()
    other.transport.turns.extend([fail(unanswered()), fail(shed(1.0)), fail(invalid("columns.value[0]"))])
    with pytest.raises(OutcomeUnknown):
        await other.send()


@in_virtual_time
async def test_an_id_of_the_callers_own_is_never_made_anew() -> None:
    case = Case()
    case.transport.turns.append(fail(out_of_range(NOW_US + 30 * HOUR_US)))
    with pytest.raises(OutOfRange):
        await case.send(request_id=ID)
    assert case.sent_ids == [ID]


@in_virtual_time
async def test_a_service_that_contradicts_itself_about_the_time_is_not_asked_for_ever() -> None:
    case = Case()
    case.transport.turns.extend([fail(out_of_range(NOW_US + n * HOUR_US)) for n in range(100)])
    with pytest.raises(OutOfRange):
        await case.send()
    assert len(case.transport.sent) == 4


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


@pytest.mark.exact
@pytest.mark.parametrize(
    "answer",
    [
        Receipt("", 0, 0, Durability.UNSPECIFIED),
        Receipt("017f22e2-79b0-7cc3-98c4-dc0c0c073990", 2, 0, Durability.JOURNALED),
        Receipt(ID, 1, 0, Durability.JOURNALED),
        Receipt(ID, 1, 2, Durability.JOURNALED),
    ],
    ids=["empty", "another id", "too few", "too many"],
)
def test_only_the_receipt_of_all_events_of_the_request_is_an_answer(answer: Receipt) -> None:
    async def turn(_batch: Batch) -> Receipt:
        return answer

    @in_virtual_time
    async def run() -> None:
        case = Case()
        case.transport.turns.append(turn)
        assert await case.send(request_id=ID) == Receipt(ID, 2, 0, Durability.JOURNALED)
        assert len(case.transport.sent) == 2
        case.transport.turns.append(turn)
        with pytest.raises(OutcomeUnknown, match="no receipt of this request") as raised:
            await case.send(Limits(60.0, 20.0, attempts=1), request_id=ID)
        assert raised.value.request_ids == (ID,)

    run()


@in_virtual_time
async def test_what_is_refused_for_good_is_not_sent_again() -> None:
    for error in (invalid("events"), ServerFault("no", reason="PERMISSION_DENIED")):
        case = Case()
        case.transport.turns.append(fail(error))
        with pytest.raises(type(error)):
            await case.send()
        assert len(case.transport.sent) == 1
        assert not case.delivery.is_in_doubt


@in_virtual_time
async def test_a_refusal_after_an_attempt_without_an_answer_settles_nothing() -> None:
    case = Case()
    case.transport.turns.extend([fail(unanswered()), fail(invalid("columns.value[0]"))])
    with pytest.raises(OutcomeUnknown, match="an attempt had no answer") as raised:
        await case.send()
    assert raised.value.violations
    assert case.delivery.is_in_doubt


@in_virtual_time
async def test_an_id_that_was_used_for_other_events_is_told_as_such() -> None:
    case = Case()
    case.transport.turns.append(fail(RequestIdReused("reused", reason="REQUEST_ID_REUSED")))
    with pytest.raises(RequestIdReused):
        await case.send(request_id=ID)
    assert case.delivery.is_in_doubt  # other parts of the request may have been counted


@in_virtual_time
async def test_an_id_of_the_clients_own_that_has_other_events_leaves_the_outcome_unknown() -> None:
    case = Case()
    case.transport.turns.append(fail(RequestIdReused("reused", reason="REQUEST_ID_REUSED")))
    with pytest.raises(OutcomeUnknown, match="that of other events: reused") as raised:
        await case.send()
    assert raised.value.request_ids == (case.sent_ids[0],)
    assert [batch.request_id for batch in raised.value.batches] == case.sent_ids


@in_virtual_time
async def test_what_is_cut_off_is_unknown_or_was_never_sent() -> None:
    case = Case()
    assert isinstance(cut_off(case.delivery, "X", "why"), NotSent)
    case.transport.turns.append(never)
    sending = asyncio.create_task(case.send())
    await asyncio.sleep(1)
    assert isinstance(cut_off(case.delivery, "X", "why"), OutcomeUnknown)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    unknown = cut_off(case.delivery, "X", "why")
    assert isinstance(unknown, OutcomeUnknown)
    assert [batch.request_id for batch in unknown.batches] == case.sent_ids


@in_virtual_time
async def test_what_was_refused_for_good_and_then_cut_off_was_never_sent() -> None:
    case = Case()
    case.transport.turns.append(fail(invalid("columns.value[0]")))
    with pytest.raises(InvalidRequest):
        await case.send()
    assert isinstance(cut_off(case.delivery, "X", "why"), NotSent)


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
