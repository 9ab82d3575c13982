"""The error for an argument of the wrong type."""

from collections.abc import Iterator
from contextlib import contextmanager

from tally.contract.errors import InvalidRequest, TallyError


def wrong_type(field: str, wanted: str, given: object) -> InvalidRequest:
    """The error of a field that was given something else than it takes."""
    return InvalidRequest.of(field, f"must be {wanted}, not {type(given).__name__}")


@contextmanager
def refuse_wrong_types(field: str) -> Iterator[None]:
    """Around the making of a message: what protobuf does not take becomes an InvalidRequest. `field`: its path."""
    try:
        yield
    except TallyError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest.of(field, f"cannot be sent: {error}") from error
