"""Under which id a request goes, and what its end is. Time is virtual; the transport does as the test says."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import (
    Batch,
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
from tally.client._delivery.sending import Limits, cut_off
from tally.client.answers import Durability
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.sending import HOUR_US, ID, NOW_US, Case, time_us_of
from tests.unit.tally.transport import fail, invalid, never, out_of_range, overloaded, shed, unanswered


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
    case.transport.turns.append(fail(RequestIdReused.received("reused")))
    with pytest.raises(RequestIdReused):
        await case.send(request_id=ID)
    assert case.delivery.is_in_doubt  # other parts of the request may have been counted


@in_virtual_time
async def test_an_id_of_the_clients_own_that_has_other_events_leaves_the_outcome_unknown() -> None:
    case = Case()
    case.transport.turns.append(fail(RequestIdReused.received("reused")))
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
