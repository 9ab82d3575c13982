"""THE TABLE: who is measured, beside whom, and which ratios are taken."""

import re
from collections.abc import Sequence
from functools import partial

from loadtests.bench import door, echo, postgres_batch, postgres_single, valkey_hincrby, valkey_lua
from loadtests.bench.batched import TallyBatched
from loadtests.bench.contender import Contender
from loadtests.bench.events import HOT, Mix
from loadtests.bench.figures import Ratio
from loadtests.bench.rows import TallyRows
from loadtests.bench.single import TallySingle
from loadtests.bench.split import open_split
from loadtests.bench.tally import open_tally

_OPEN_ROWS = partial(open_tally, make=TallyRows)
_OPEN_STREAM = partial(open_tally, transport="stream")
_OPEN_DIRECT = partial(open_tally, transport="direct")
_OPEN_SINGLE = partial(open_tally, make=TallySingle)
_OPEN_BATCHED = partial(open_tally, make=TallyBatched)

GROUPS: Sequence[Sequence[Contender]] = (
    (
        Contender("tally-columns-1000", 1_000, open_tally),
        Contender("tally-hot-1000", 1_000, open_tally, mix=HOT),
        Contender("valkey-lua-1000", 1_000, valkey_lua.open_valkey_lua, valkey_lua.LACKS),
        Contender("valkey-lua-door-1000", 1_000, door.open_door_to_valkey, valkey_lua.LACKS),
        Contender("valkey-hincrby-1000", 1_000, valkey_hincrby.open_valkey_hincrby, valkey_hincrby.LACKS),
        Contender("postgres-batch-1000", 1_000, postgres_batch.open_postgres_batch, postgres_batch.LACKS),
    ),
    (
        Contender("tally-columns-5000", 5_000, open_tally),
        Contender("valkey-lua-5000", 5_000, valkey_lua.open_valkey_lua, valkey_lua.LACKS),
        Contender("valkey-lua-door-5000", 5_000, door.open_door_to_valkey, valkey_lua.LACKS),
    ),
    (
        Contender("tally-single-1", 1, _OPEN_SINGLE),
        Contender("echo-1", 1, echo.open_echo, echo.LACKS),
        Contender("postgres-single-1", 1, postgres_single.open_postgres_single, postgres_single.LACKS),
    ),
    (
        Contender("tally-columns-100", 100, open_tally),
        Contender("valkey-lua-100", 100, valkey_lua.open_valkey_lua, valkey_lua.LACKS),
    ),
    (
        Contender("tally-stream-1000", 1_000, _OPEN_STREAM),
        Contender("tally-direct-1000", 1_000, _OPEN_DIRECT),
        Contender("tally-rows-1000", 1_000, _OPEN_ROWS),
        Contender("tally-batched-1000", 1_000, _OPEN_BATCHED),
        Contender("postgres-batch-door-1000", 1_000, door.open_door_to_postgres, postgres_batch.LACKS),
    ),
)
"""The contenders of a group run in the same rounds; only such are compared."""


def _vary(name: str, settings: Sequence[int], variable: str) -> tuple[Contender, ...]:
    return tuple(
        Contender(f"{name}{value}", 1_000, partial(open_tally, settings={variable: str(value)}))
        for value in settings
    )


FULL: Sequence[Sequence[Contender]] = (
    (
        Contender("tally-rows-100", 100, _OPEN_ROWS),
        Contender("tally-stream-100", 100, _OPEN_STREAM),
        Contender("tally-direct-100", 100, _OPEN_DIRECT),
        Contender("postgres-batch-100", 100, postgres_batch.open_postgres_batch, postgres_batch.LACKS),
        Contender("valkey-hincrby-100", 100, valkey_hincrby.open_valkey_hincrby, valkey_hincrby.LACKS),
    ),
    (
        Contender("tally-rows-5000", 5_000, _OPEN_ROWS),
        Contender("tally-stream-5000", 5_000, _OPEN_STREAM),
        Contender("tally-direct-5000", 5_000, _OPEN_DIRECT),
        Contender("postgres-batch-5000", 5_000, postgres_batch.open_postgres_batch, postgres_batch.LACKS),
        Contender("postgres-batch-door-5000", 5_000, door.open_door_to_postgres, postgres_batch.LACKS),
    ),
    (
        Contender("tally-batched-1", 1, _OPEN_BATCHED),
        Contender("tally-columns-1", 1, open_tally),
        Contender("tally-rows-1", 1, _OPEN_ROWS),
        Contender("tally-stream-1", 1, _OPEN_STREAM),
    ),
    _vary("tally-partitions-", (4, 16, 64), "TALLY_PARTITION_COUNT"),
    (
        Contender("tally-shards-1", 1_000, partial(open_split, shard_count=1)),
        Contender("tally-shards-2", 1_000, partial(open_split, shard_count=2)),
        Contender("tally-hot-shards-2", 1_000, partial(open_split, shard_count=2), mix=HOT),
    ),
    tuple(
        Contender(f"tally-videos-{count}", 1_000, open_tally, mix=Mix(f"{count:,} videos", count))
        for count in (1_000, 100_000, 10_000_000)
    ),
)
"""What FULL=1 measures besides: how the cost grows."""

RATIOS: Sequence[Ratio] = (
    Ratio("columns_1000_vs_valkey_lua", "tally-columns-1000", "valkey-lua-1000", 1.0),
    Ratio("columns_1000_vs_valkey_lua_door", "tally-columns-1000", "valkey-lua-door-1000", 1.5),
    Ratio("columns_5000_vs_valkey_lua", "tally-columns-5000", "valkey-lua-5000", 1.0),
    Ratio("columns_5000_vs_valkey_lua_door", "tally-columns-5000", "valkey-lua-door-5000", 1.5),
    Ratio("columns_100_vs_valkey_lua", "tally-columns-100", "valkey-lua-100"),
    Ratio("single_vs_echo", "tally-single-1", "echo-1", 0.6),
    Ratio("single_vs_postgres_single", "tally-single-1", "postgres-single-1"),
    Ratio("hot_vs_zipf", "tally-hot-1000", "tally-columns-1000", 0.8),
    Ratio("hot_vs_zipf_2_shards", "tally-hot-shards-2", "tally-shards-2", 0.8),
    Ratio("shards_2_vs_1", "tally-shards-2", "tally-shards-1"),
    Ratio("columns_1000_vs_valkey_hincrby", "tally-columns-1000", "valkey-hincrby-1000"),
    Ratio("columns_1000_vs_postgres_batch", "tally-columns-1000", "postgres-batch-1000"),
    Ratio("stream_1000_vs_postgres_batch_door", "tally-stream-1000", "postgres-batch-door-1000"),
    Ratio("direct_1000_vs_stream_1000", "tally-direct-1000", "tally-stream-1000"),
    Ratio("stream_1000_vs_rows_1000", "tally-stream-1000", "tally-rows-1000"),
)


def choose(wanted: Sequence[str], *, is_full: bool) -> list[list[Contender]]:
    """The groups, with those contenders that are wanted; none wanted means all, the full ones only if `is_full`.

    A name without its last number stands for every size. Raises ValueError for an unknown name.
    """
    groups = (*GROUPS, *FULL) if is_full or wanted else GROUPS
    unknown = [name for name in wanted if not any(_is(each, name) for group in groups for each in group)]
    if unknown:
        names = ", ".join(each.name for group in groups for each in group)
        raise ValueError(f"no contender is called {', '.join(unknown)}; there are {names}")
    chosen = [
        [each for each in group if not wanted or any(_is(each, name) for name in wanted)] for group in groups
    ]
    return [group for group in chosen if group]


def _is(contender: Contender, name: str) -> bool:
    return contender.name == name or re.sub(r"-\d+$", "", contender.name) == name
