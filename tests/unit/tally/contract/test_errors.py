"""What every error of the tree can do, however it is made."""

import copy
import pickle

import pytest

from tally.contract.errors import InvalidRequest, OutOfRange, Overloaded, TallyError, Unavailable, Violation

VIOLATIONS = [Violation("video_id", "is empty"), Violation("event_type", "is empty")]
MADE: list[TallyError] = [
    Unavailable("away", request_ids=["id"], unreachable="address"),
    InvalidRequest(VIOLATIONS, total=70),
    OutOfRange(VIOLATIONS, server_time_us=12),
    Overloaded("full", retry_after_s=2.5, nothing_done=True),
    Overloaded.received("full", reason="BUSY", metadata={"nothing_done": "true"}),
]


@pytest.mark.parametrize("error", MADE, ids=repr)
def test_an_error_is_copied_and_pickled_with_all_that_it_says(error: TallyError) -> None:
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - bytes of this test
        assert type(same) is type(error)
        assert (str(same), same.args, vars(same)) == (str(error), error.args, vars(error))


def test_a_rejected_request_is_told_by_its_first_violation_and_how_many_there_are() -> None:
    assert str(InvalidRequest(VIOLATIONS, total=70)) == "video_id: is empty (and 69 more)"
    assert InvalidRequest(VIOLATIONS).total == 2
    assert str(InvalidRequest.of("video_id", "is empty")) == "video_id: is empty"


def test_an_invalid_request_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="is empty"):
        raise InvalidRequest(VIOLATIONS)


@pytest.mark.parametrize("said", [None, "", "-", "--5", "soon"])
def test_a_number_that_cannot_be_read_is_none(said: str | None) -> None:
    metadata = {} if said is None else {"server_time_us": said, "violations": said}
    error = OutOfRange.received("old", metadata=metadata, violations=VIOLATIONS)
    assert (error.server_time_us, error.total) == (None, 2)
