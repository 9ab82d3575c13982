"""Pages of lists: sizes, and tokens with the last key of the previous page."""

import base64
import binascii

from tally.contract.errors import InvalidRequest, Violation

PAGE, LARGEST_PAGE = 50, 1_000


def read_size(size: int, default: int = PAGE, largest: int = LARGEST_PAGE) -> int:
    """How many a page has. Raises InvalidRequest."""
    if size < 0:
        raise InvalidRequest([Violation("page_size", "must not be negative")])
    return min(size or default, largest)


def write_token(last: str, filters: str = "") -> str:
    """What asks for the page behind the one that ended with `last`, of a list with these filters."""
    return base64.urlsafe_b64encode(f"{filters}\n{last}".encode()).decode()


def read_token(token: str, filters: str = "") -> str:
    """What the page before ended with; empty: there was none. Raises InvalidRequest."""
    if not token:
        return ""
    try:
        its_filters, separator, last = base64.urlsafe_b64decode(token.encode()).decode().partition("\n")
    except (ValueError, binascii.Error) as error:
        raise _refusal("is no token of this service") from error
    if not separator or not last:
        raise _refusal("is no token of this service")
    if its_filters != filters:
        raise _refusal("belongs to a list with other filters: send those that it began with")
    return last


def _refusal(problem: str) -> InvalidRequest:
    return InvalidRequest([Violation("page_token", problem)])
