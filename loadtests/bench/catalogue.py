"""THE TABLE: who is measured, beside whom, and which ratios are taken."""

import re
from collections.abc import Sequence

from loadtests.bench import tally, valkey_lua
from loadtests.bench.contender import Contender
from loadtests.bench.figures import Ratio

GROUPS: Sequence[Sequence[Contender]] = (
    (
        Contender("tally-columns-1000", 1_000, tally.open_tally),
        Contender("valkey-lua-1000", 1_000, valkey_lua.open_valkey_lua, valkey_lua.LACKS),
    ),
    (
        Contender("tally-columns-5000", 5_000, tally.open_tally),
        Contender("valkey-lua-5000", 5_000, valkey_lua.open_valkey_lua, valkey_lua.LACKS),
    ),
)
"""The contenders of a group run in the same rounds; only such are compared."""

RATIOS: Sequence[Ratio] = (
    Ratio("columns_1000_vs_valkey_lua", "tally-columns-1000", "valkey-lua-1000", 1.0),
    Ratio("columns_5000_vs_valkey_lua", "tally-columns-5000", "valkey-lua-5000", 1.0),
)


def choose(wanted: Sequence[str], *, is_full: bool) -> list[list[Contender]]:
    """The groups, with those contenders that are wanted; none wanted means all, the full ones only if `is_full`.

    A name without its last number stands for every size. Raises ValueError for a name that is nobody's.
    """
    unknown = [name for name in wanted if not any(_is(each, name) for group in GROUPS for each in group)]
    if unknown:
        names = ", ".join(each.name for group in GROUPS for each in group)
        raise ValueError(f"no contender is called {', '.join(unknown)}; there are {names}")
    chosen = [[each for each in group if _is_wanted(each, wanted, is_full=is_full)] for group in GROUPS]
    return [group for group in chosen if group]


def _is_wanted(contender: Contender, wanted: Sequence[str], *, is_full: bool) -> bool:
    if wanted:
        return any(_is(contender, name) for name in wanted)
    return is_full or not contender.full_only


def _is(contender: Contender, name: str) -> bool:
    return contender.name == name or re.sub(r"-\d+$", "", contender.name) == name
