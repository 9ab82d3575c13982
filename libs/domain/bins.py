"""Bins: each member of a population has a fixed value of the bin space; a job divides the values by residue.

A job that divides its population into `bin_max` bins selects the members with `sync_bin % bin_max` in some numbers. An
index on the value itself serves every `bin_max`, if the values are listed instead of their residues.
"""

from collections.abc import Collection
from dataclasses import dataclass

DEFAULT_SPACE = 50_400
"""2⁵·3²·5²·7: divisible by 2, 4, 7, 10, 12, 14, 24, 28, 48, 60, 100, 168 and 1440."""
SOURCE_SPACE = 1_025
"""The values 0 to 1024, 5²·41: no number of bins in common use divides it."""


@dataclass(frozen=True, slots=True)
class Skew:
    """How unevenly a bin space falls into bins. Shares are of 1."""

    smallest_share: float
    largest_share: float
    empty_bins: int
    """bins that no value falls into, so that they never have a member"""

    @property
    def is_even(self) -> bool:
        """Whether all bins have the same share."""
        return self.smallest_share == self.largest_share


def skew(space: int, bin_max: int) -> Skew:
    """The shares of the bins when the values [0, space) are divided into `bin_max` bins by residue."""
    each, more = divmod(space, bin_max)
    return Skew(
        smallest_share=each / space,
        largest_share=(each + (more > 0)) / space,
        empty_bins=max(0, bin_max - space),
    )


def values_between(bin_numbers: Collection[int], bin_max: int, first: int, last: int) -> list[int]:
    """The values from `first` to `last`, both included, that fall into the bins; ascending."""
    base = first - first % bin_max
    residues = sorted(set(bin_numbers))
    return [
        value
        for start in range(base, last + 1, bin_max)
        for residue in residues
        if first <= (value := start + residue) <= last
    ]


def selects_all(bin_numbers: Collection[int], bin_max: int) -> bool:
    """Whether no value is left out, so that no filter is needed."""
    return len(set(bin_numbers)) == bin_max
