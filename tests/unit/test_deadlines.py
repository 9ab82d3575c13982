"""Every await on a store or a peer has a deadline. The awaits are found in the source, so that a new one is found too.

An await has a deadline when the call has a `timeout`, when it stands in `asyncio.timeout(…)` or `asyncio.wait_for`,
when it is on a pool (the one place that opens pools limits each wait and each statement), or on a connection that the
same function takes from a pool. Modules that are given a connection are listed below, with what limits their
statements.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_GENERATED = re.compile(r"libs/tally/tally/\w+/v1/")

_POSTGRES = {"execute", "executemany", "fetch", "fetchval", "fetchrow", "acquire", "transaction", "cursor"}
_RECEIVER = re.compile(r"(pool|connection|inserts|flushes)$")
_POOL = re.compile(r"(^|\.|_)pool$")
# An rpc, by the name of its method; and the names by which one is called where it is a value.
_RPC = re.compile(r"^[A-Z][a-z]\w+$")
_RPC_VALUES = {
    "send",
    "calls",
    "self._method",
    "self._check",
    "call",
    "open_connection",
    "open_unix_connection",
}
_RPC_VALUES_IN = re.compile(r"^(libs/rpc|libs/tally|services/partitioner|services/devcluster/children)")
_STREAM = {"call.write", "self.call.write", "call.done_writing"}
_OPENS = {
    "asyncpg.connect": {"timeout"},
    "asyncpg.create_pool": {"timeout", "command_timeout"},
    "_Pool": {"timeout", "command_timeout", "acquire_seconds"},
    "valkey.from_url": {"socket_timeout", "socket_connect_timeout"},
    "Redis.from_url": {"socket_timeout", "socket_connect_timeout"},
}

OF_A_POOL = "its callers give it a connection of a pool"
OF_RUN = "it is work for WriteConnection.run, which has a limit and never cancels a statement"
GIVEN_CONNECTION = {
    "libs/stores/floor.py": f"{OF_A_POOL}, and `tally floor` limits all of it",
    "libs/stores/postgres.py": OF_RUN,
    "libs/stores/schema.py": "`migrate` limits all of it",
    "services/catalog/deletion.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/catalog/feed.py": OF_A_POOL,
    "services/catalog/layout.py": OF_A_POOL,
    "services/catalog/list_record.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/catalog/reindexing.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/catalog/resource_reading.py": OF_A_POOL,
    "services/catalog/resource_record.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/catalog/rule_record.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/catalog/type_record.py": f"{OF_A_POOL}, and a write has a limit for all of it",
    "services/counting/dead_letters/letters.py": f"{OF_A_POOL}, or {OF_RUN}",
    "services/counting/dead_letters/decisions.py": OF_RUN,
    "services/counting/recovery/empty_partitions.py": OF_A_POOL,
    "services/counting/journal/journal.py": OF_RUN,
    "services/counting/journal/log.py": OF_RUN,
    "services/counting/recovery/partitions.py": OF_A_POOL,
    "services/counting/recovery/recovery.py": OF_A_POOL,
    "services/counting/flush/rollups.py": f"{OF_A_POOL}, or {OF_RUN}",
    "services/counting/flush/runs.py": f"{OF_A_POOL}, or {OF_RUN}",
    "services/counting/merging/merger.py": OF_A_POOL,
    "services/counting/spool/drain.py": OF_RUN,
    "services/query/proof.py": OF_A_POOL,
    "services/query/regions.py": OF_A_POOL,
    "services/query/standby.py": OF_A_POOL,
    "services/query/unsettled.py": OF_A_POOL,
    "services/backfill/": OF_A_POOL,
    "services/scheduler/": OF_A_POOL,
    "services/replication/apply.py": OF_A_POOL,
    "services/replication/epoch.py": OF_A_POOL,
    "services/replication/lane.py": OF_A_POOL,
    "services/replication/passes.py": OF_A_POOL,
    "services/replication/rollup_blocks.py": OF_A_POOL,
    "services/replication/rollup_source.py": OF_A_POOL,
    "services/replication/rollup_store.py": OF_A_POOL,
    "services/replication/progress.py": f"{OF_A_POOL}, or the pool itself",
    "services/replication/snapshot_import.py": OF_A_POOL,
    "services/replication/state.py": OF_A_POOL,
    "services/replication/transactions.py": f"{OF_A_POOL}; a bulk commit limits all of its transaction",
}
OTHERWISE_BOUNDED = {
    ("libs/tally/tally/client/_calls/connection.py", "call.write"): "the call was begun with a timeout",
    (
        "libs/tally/tally/client/_calls/connection.py",
        "call.done_writing",
    ): "the call was begun with a timeout",
    (
        "libs/tally/tally/client/_delivery/stream.py",
        "call.write",
    ): "each batch has a patience of its own beside it",
}


@dataclass(frozen=True, slots=True)
class Found:
    """An await, or the opening of a client, without a deadline that can be seen."""

    path: str
    line: int
    callee: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} awaits {self.callee}(…) without a deadline"


def unbounded(source: str, path: str) -> Iterator[Found]:
    """What has no deadline in the source of a module, before any allowance."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        callee = ast.unparse(node.func)
        if callee in _OPENS:
            if not _OPENS[callee] <= {keyword.arg for keyword in node.keywords}:
                yield Found(path, node.lineno, callee)
        elif _is_awaited(node) and _is_of_store_or_peer(node, path) and not _has_deadline(node):
            yield Found(path, node.lineno, callee)


def _is_awaited(call: ast.Call) -> bool:
    parent = call.parent  # type: ignore[attr-defined]
    return isinstance(parent, ast.Await) or (
        isinstance(parent, ast.withitem) and isinstance(parent.parent, ast.AsyncWith)  # type: ignore[attr-defined]
    )


def _is_of_store_or_peer(call: ast.Call, path: str) -> bool:
    callee = ast.unparse(call.func)
    receiver, _, method = callee.rpartition(".")
    if method in _POSTGRES and _RECEIVER.search(receiver):
        return True
    if receiver and _RPC.match(method) and receiver.endswith(("stub", "Stub", "client")):
        return True
    if callee in _STREAM:
        return True
    return bool(_RPC_VALUES_IN.match(path)) and (callee in _RPC_VALUES or method == "open_connection")


def _has_deadline(call: ast.Call) -> bool:
    if any(keyword.arg in ("timeout", "timeout_s", "timeout_seconds") for keyword in call.keywords):
        return not any(
            keyword.arg == "timeout"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is None
            for keyword in call.keywords
        )
    receiver = ast.unparse(call.func).rpartition(".")[0]
    if _POOL.search(receiver):
        return True
    # Outwards: a scope with a time limit, or one that has taken the connection from a pool.
    node: ast.AST | None = call
    while node is not None and not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
        node = getattr(node, "parent", None)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.wait_for":
            return True
        if isinstance(node, ast.AsyncWith):
            for item in node.items:
                opened = ast.unparse(item.context_expr)
                if opened.startswith("asyncio.timeout("):
                    return True
                if item.optional_vars is not None and ast.unparse(item.optional_vars) == receiver:
                    return bool(re.search(r"pool\.acquire\(|\.connection_for\(", opened))
        if isinstance(node, ast.AsyncFunctionDef):
            return False
    return False


def _sources() -> Iterator[tuple[str, str]]:
    for folder in ("services", "libs"):
        for file in sorted((_ROOT / folder).rglob("*.py")):
            path = file.relative_to(_ROOT).as_posix()
            if not _GENERATED.match(path):
                yield path, file.read_text()


@cache
def _all_unbounded() -> Sequence[Found]:
    return [found for path, source in _sources() for found in unbounded(source, path)]


def _is_allowed(found: Found) -> bool:
    if (found.path, found.callee) in OTHERWISE_BOUNDED:
        return True
    is_on_connection = found.callee.rpartition(".")[0] == "connection"
    folder = found.path.rpartition("/")[0] + "/"
    return is_on_connection and (found.path in GIVEN_CONNECTION or folder in GIVEN_CONNECTION)


def test_every_await_on_a_store_or_a_peer_has_a_deadline() -> None:
    assert [str(found) for found in _all_unbounded() if not _is_allowed(found)] == []


def test_nothing_is_allowed_that_is_not_there() -> None:
    found = _all_unbounded()
    places = {place for each in found for place in (each.path, each.path.rpartition("/")[0] + "/")}
    assert GIVEN_CONNECTION.keys() - places == set()
    assert OTHERWISE_BOUNDED.keys() - {(each.path, each.callee) for each in found} == set()


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("await connection.fetchval(X)", 1),
        ("await connection.fetchval(X, timeout=1.0)", 0),
        ("await connection.fetchval(X, timeout=None)", 1),
        ("await self._pool.fetchval(X)", 0),
        ("async with asyncio.timeout(1), connection.transaction(): await connection.execute(X)", 0),
        ("async with self._pool.acquire() as connection: await connection.execute(X)", 0),
        ("async with await_me() as connection: await connection.execute(X)", 1),
        ("async with connection.transaction(): pass", 1),
        ("await asyncio.wait_for(pool.close(), timeout=1)", 0),
        ("await stub.Append(request)", 1),
        ("await stub.Append(request, timeout=1)", 0),
        ("await self._method(request)", 1),
        ("await asyncio.open_connection(host, port)", 1),
        ("await asyncpg.connect(dsn)", 1),
        ("await asyncpg.connect(dsn, timeout=1)", 0),
        ("await asyncpg.create_pool(dsn, timeout=1)", 1),
        ("client = valkey.from_url(url, socket_timeout=1)", 1),
        ("client = valkey.from_url(url, socket_timeout=1, socket_connect_timeout=1)", 0),
    ],
)
def test_the_search_finds(line: str, count: int) -> None:
    assert len(list(unbounded(f"async def work(connection):\n    {line}\n", "libs/rpc/work.py"))) == count
