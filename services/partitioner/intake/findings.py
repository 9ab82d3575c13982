"""The violations in one request: all are counted, the first ones are reported.

Violations that no retry can cure come before times that are out of range.
"""

from tally.contract.errors import MAX_VIOLATIONS, InvalidRequest, OutOfRange, Violation


class Findings:
    """The violations in one request."""

    def __init__(self) -> None:
        self._invalid: list[Violation] = []
        self._invalid_total = 0
        self._out_of_range: list[Violation] = []
        self._out_of_range_total = 0

    def note(self, field: str, problem: str | None) -> None:
        """Note what a rule said of a field, if it said anything."""
        if problem is not None:
            self._invalid_total += 1
            if len(self._invalid) < MAX_VIOLATIONS:
                self._invalid.append(Violation(field, problem))

    def note_all(self, error: InvalidRequest) -> None:
        """Add violations that other code has found."""
        self._invalid_total += error.total
        self._invalid.extend(error.violations[: MAX_VIOLATIONS - len(self._invalid)])

    def note_out_of_range(self, field: str, problem: str | None) -> None:
        """The same for a time outside the accepted range."""
        if problem is not None:
            self._out_of_range_total += 1
            if len(self._out_of_range) < MAX_VIOLATIONS:
                self._out_of_range.append(Violation(field, problem))

    def raise_if_any(self, now_us: int) -> None:
        """Raises InvalidRequest, or else OutOfRange with the server's time."""
        if self._invalid:
            raise InvalidRequest(self._invalid, self._invalid_total)
        if self._out_of_range:
            raise OutOfRange(self._out_of_range, self._out_of_range_total, server_time_us=now_us)
