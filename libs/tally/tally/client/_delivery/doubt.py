"""What an attempt's error implies for its events, and the error of a request without a receipt."""

from tally.client.columns import Batch
from tally.client.errors import NotSent, OutcomeUnknown
from tally.contract.errors import Overloaded, RequestIdReused, TallyError


def may_have_counted(error: TallyError) -> bool:
    """Whether the attempt that ended so may have counted its events, or a part of them."""
    if isinstance(error, Overloaded):
        return not error.counted_nothing
    return isinstance(error, OutcomeUnknown | RequestIdReused)


def in_view_of(doubted: Batch, error: TallyError) -> TallyError:
    """The error that ends a request that an attempt may have counted: what the last one says is not the whole truth."""
    if isinstance(error, Overloaded):
        return error
    if isinstance(error, OutcomeUnknown):
        unknown = error
    else:
        what = (
            "a part may have been counted before the id was found to be that of other events"
            if isinstance(error, RequestIdReused)
            else "an attempt had no answer, and a later one was refused"
        )
        unknown = OutcomeUnknown(
            f"{what}: {error.message}",
            reason=error.reason,
            metadata=error.metadata,
            violations=error.violations,
            request_ids=(doubted.request_id,),
        )
    unknown.batches = (doubted,)
    return unknown


def held_back(batch: Batch | None) -> TallyError:
    """The error of a request whose time was over before its first attempt. `batch`: None if it has no id yet.

    An id that is there is the caller's own, who may have sent it before.
    """
    why = "the service does not answer, and the time was over before it was to be asked again"
    if batch is None:
        return NotSent(f"{why}; the events were not sent, and are not counted", reason="BREAKER_OPEN")
    unknown = OutcomeUnknown(
        f"{why}; whether the events were counted before under this id ({batch.request_id}) is not known: "
        "send the same again under it, and they are counted once",
        reason="BREAKER_OPEN",
        request_ids=(batch.request_id,),
    )
    unknown.batches = (batch,)
    return unknown
