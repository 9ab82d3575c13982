"""What a cell should say, worked out the slow way: with exact fractions."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from libs.domain.cells import Cell


@dataclass(frozen=True, slots=True)
class Truth:
    """The events of one key; in `values` None for an event that carries none."""

    values: Sequence[float | None]

    def __post_init__(self) -> None:
        assert all(value is None or math.isfinite(value) for value in self.values)

    @property
    def held(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def sum(self) -> Fraction:
        return sum(map(Fraction, self.held), Fraction())

    @property
    def m2(self) -> Fraction:
        """The sum of squared deviations from the mean."""
        if not self.held:
            return Fraction()
        mean = self.sum / len(self.held)
        return sum(((Fraction(value) - mean) ** 2 for value in self.held), Fraction())

    def assert_is(self, cell: Cell) -> None:
        """The cell says the same: exactly what can be exact, the rest within what n roundings may cost."""
        held = self.held
        assert (cell.count, cell.value_count) == (len(self.values), len(held))
        assert (cell.min, cell.max) == ((min(held), max(held)) if held else (None, None))
        if all(value.is_integer() for value in held):
            assert cell.sum == self.sum
        ulps = 2.0**-53 * (len(held) + 2)
        magnitude = float(sum((abs(Fraction(value)) for value in held), Fraction()))
        assert abs(Fraction(cell.sum) - self.sum) <= Fraction(ulps * magnitude)
        # The mean is off by so much of the magnitudes, and the deviations from it with it.
        spread = float(self.m2)
        off = ulps * magnitude
        allowed = 8 * ulps * spread + 4 * off * math.sqrt(spread) + 4 * off * off
        assert cell.m2 >= 0
        # And what is below the smallest double is lost altogether.
        underflow = (len(held) + 2) * Fraction(2) ** -1074
        assert abs(Fraction(cell.m2) - self.m2) <= Fraction(allowed) + underflow


def cell_of(values: Iterable[float | None]) -> Cell:
    """One cell for each event, merged one after the other."""
    cell = Cell()
    for value in values:
        cell = cell.merge(
            Cell(1) if value is None else Cell(1, value_count=1, sum=value, min=value, max=value, m2=0.0)
        )
    return cell
