import pytest

from services.cli.terminal.calling import explain, is_unsettled
from services.cli.terminal.failure import REFUSED, UNKNOWN
from tally.client import InvalidRequest, NotSent, OutcomeUnknown, Overloaded, TallyError

ADDRESS = "127.0.0.1:1"
IDS = ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f",)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (OutcomeUnknown("no answer", request_ids=IDS), UNKNOWN),
        (NotSent("the breaker is open"), UNKNOWN),
        (Overloaded.received("busy", request_ids=IDS), UNKNOWN),
        (Overloaded.received("busy"), REFUSED),
        (InvalidRequest.received("bad", request_ids=IDS), REFUSED),
    ],
    ids=repr,
)
def test_only_what_the_service_refused_is_called_refused(error: TallyError, exit_code: int) -> None:
    assert explain(error, ADDRESS).exit_code == exit_code
    assert is_unsettled(error) == (exit_code == UNKNOWN)
