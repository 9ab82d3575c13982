"""Cells: aggregates of the events of one key, and their merge.

A cell holds count, value_count, sum, min, max and M2, the sum of squared deviations from the mean. M2
is merged by the formula of Chan, Golub and LeVeque (1979); a sum of squares would lose all digits to
cancellation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tally.contract.errors import Unimplemented
from tally.contract.function import Function


@dataclass(frozen=True, slots=True)
class Cell:
    """The aggregate of some events; `count` of them, `value_count` of which carry a value."""

    count: int = 0
    value_count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    m2: float = 0.0

    def merge(self, other: "Cell") -> "Cell":
        """The aggregate of the events of both."""
        if not other.value_count:
            return Cell(self.count + other.count, self.value_count, self.sum, self.min, self.max, self.m2)
        if not self.value_count:
            return Cell(
                self.count + other.count, other.value_count, other.sum, other.min, other.max, other.m2
            )
        n = self.value_count + other.value_count
        apart = other.sum / other.value_count - self.sum / self.value_count
        return Cell(
            count=self.count + other.count,
            value_count=n,
            sum=self.sum + other.sum,
            min=min(_held(self.min), _held(other.min)),
            max=max(_held(self.max), _held(other.max)),
            m2=self.m2 + other.m2 + apart * apart * (self.value_count * other.value_count / n),
        )

    def evaluate(self, function: Function) -> float | None:
        """One aggregate; None where no event carries a value. STDDEV is the population's. Raises Unimplemented."""
        if function is Function.COUNT:
            return float(self.count)
        check_told_by_cells(function)
        if not self.value_count:
            return None
        match function:
            case Function.SUM:
                return self.sum
            case Function.AVERAGE:
                return self.sum / self.value_count
            case Function.MIN:
                return self.min
            case Function.MAX:
                return self.max
            case _:
                return math.sqrt(self.m2 / self.value_count)


def check_told_by_cells(function: Function) -> None:
    """Raises Unimplemented for what cells cannot tell: it needs a sketch."""
    if function in (Function.DISTINCT, Function.QUANTILE):
        raise Unimplemented(
            f"{function.name.lower()} is not served yet; count, sum, average, min, max and stddev are"
        )


def _held(bound: float | None) -> float:
    """A bound of a cell that has values."""
    assert bound is not None  # noqa: S101 - value_count > 0 says that it is there
    return bound


@dataclass(frozen=True, slots=True)
class ValueCells:
    """The columns of n cells about values. In `min` and `max` NaN means none."""

    value_count: npt.NDArray[np.int64]
    sum: npt.NDArray[np.float64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]
    m2: npt.NDArray[np.float64]

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.value_count, self.sum, self.min, self.max, self.m2)


@dataclass(frozen=True, slots=True)
class Cells:
    """n cells as columns, each with its key: a series, that is a number for what is counted, and a minute."""

    series: npt.NDArray[np.uint64]
    minute: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    """(n,) events"""
    values: ValueCells | None = None
    """None when no event had a value: the usual case, and the cheap one"""

    def __len__(self) -> int:
        return len(self.series)

    def take(self, at: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> "Cells":
        """The cells at these places (m,), where a mask (n,) is true, or of a slice."""
        values = self.values and ValueCells(*(column[at] for column in self.values.columns()))
        return Cells(self.series[at], self.minute[at], self.count[at], values)


NO_CELLS = Cells(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))


def cells_of_events(
    series: npt.NDArray[np.uint64], minute: npt.NDArray[np.int64], value: npt.NDArray[np.float64] | None
) -> Cells:
    """Add up single events: (n,) series, their (n,) minutes and (n,) values, NaN for none."""
    if value is None and _is_one(minute):
        once, repeated = np.unique(series, return_counts=True)
        return Cells(once, np.full(len(once), minute[0]), repeated.astype(np.int64, copy=False))
    count = np.ones(len(series), np.int64)
    if value is None:
        return merge_cells([Cells(series, minute, count)])
    has_value = ~np.isnan(value)
    values = ValueCells(
        value_count=has_value.astype(np.int64),
        sum=np.where(has_value, value, 0.0),
        min=value,
        max=value,
        m2=np.zeros(len(value)),
    )
    return merge_cells([Cells(series, minute, count, values)])


def merge_cells(parts: Sequence[Cells]) -> Cells:
    """Merge cells of equal key, within a part and between them; the keys come out ascending, each once."""
    joined = join_cells(parts)
    if not len(joined):
        return joined
    cells = joined.take(_order_by_key(joined))
    is_first = np.ones(len(cells), np.bool_)
    is_first[1:] = (cells.series[1:] != cells.series[:-1]) | (cells.minute[1:] != cells.minute[:-1])
    starts = np.flatnonzero(is_first)
    return Cells(
        cells.series[starts],
        cells.minute[starts],
        np.add.reduceat(cells.count, starts),
        cells.values and _merge_values(cells.values, starts),
    )


def _order_by_key(cells: Cells) -> npt.NDArray[np.intp]:
    if _is_one(cells.minute):
        return np.argsort(cells.series, kind="stable")  # which makes use of parts that are in order already
    return np.lexsort((cells.minute, cells.series))


def _is_one(minute: npt.NDArray[np.int64]) -> bool:
    """Whether it is the same for all, as it nearly always is for events of now."""
    return len(minute) > 0 and bool((minute == minute[0]).all())


def _merge_values(rows: ValueCells, starts: npt.NDArray[np.intp]) -> ValueCells:
    """Chan's formula for many parts at once: each part's M2, and its distance from the common mean."""
    value_count = np.add.reduceat(rows.value_count, starts)
    total = np.add.reduceat(rows.sum, starts)
    mean = np.divide(total, value_count, out=np.zeros_like(total), where=value_count > 0)
    mean = np.repeat(mean, np.diff(np.append(starts, len(rows.sum))))
    part_mean = np.divide(rows.sum, rows.value_count, out=mean.copy(), where=rows.value_count > 0)
    return ValueCells(
        value_count=value_count,
        sum=total,
        min=np.fmin.reduceat(rows.min, starts),
        max=np.fmax.reduceat(rows.max, starts),
        m2=np.add.reduceat(rows.m2 + rows.value_count * (part_mean - mean) ** 2, starts),
    )


def join_cells(parts: Sequence[Cells]) -> Cells:
    """The cells of one or more parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    values = None
    if any(part.values is not None for part in parts):
        columns = zip(*(_values_of(part).columns() for part in parts), strict=True)
        values = ValueCells(*(np.concatenate(column) for column in columns))
    return Cells(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.minute for part in parts]),
        np.concatenate([part.count for part in parts]),
        values,
    )


def _values_of(cells: Cells) -> ValueCells:
    if cells.values is not None:
        return cells.values
    n = len(cells)
    none = np.full(n, np.nan)
    return ValueCells(np.zeros(n, np.int64), np.zeros(n), none, none, np.zeros(n))
