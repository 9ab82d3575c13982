"""Users who index, for locust, and at the end the proof that every entry is as it was acknowledged.

    locust -f loadtests/entries_locustfile.py --host 127.0.0.1:50051

With LOAD_PEER=host:port of a region that follows this one, its entries are compared too. Each run has locations of its
own.
"""

import os
import random
import time
from typing import Any, ClassVar
from uuid import uuid4

import gevent
import grpc
import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.user.task import LOCUST_STATE_STOPPING

from loadtests.entry_rpcs import EntryRpcs
from tally.replication.v1 import entries_pb2 as pb

# gRPC asks for this before its first object is made; locust patched the standard library when it was imported.
grpc.experimental.gevent.init_gevent()

TASKS_PER_SECOND = 5  # of one user: the pace bounds the number of calls
MOST_AT_ONCE = 200
PEER_SECONDS = 60.0
STOP_SECONDS = 30.0


class Indexer(User):
    """Puts, changes and deletes entries of one location at an even pace, and now and then commits it whole."""

    wait_time = constant_throughput(TASKS_PER_SECOND)
    expected: ClassVar[dict[str, dict[str, pb.Entry]]] = {}
    """location → id → the entry as it was acknowledged"""
    unknown: ClassVar[set[str]] = set()
    """locations with a write that has no answer"""

    def on_start(self) -> None:
        self._rpcs = EntryRpcs(str(self.host), self.environment.events.request.fire)
        self._location = str(uuid4())
        self._entries: dict[str, pb.Entry] = {}
        self._count = 0
        self.unknown.add(self._location)
        self._rpcs.put_location(self._location, f"load {self._location}")
        self.expected[self._location] = self._entries
        self.unknown.discard(self._location)
        self.put_some()  # the shortest run has something to show

    def on_stop(self) -> None:
        self._rpcs.close()

    def stop(self, force: bool = False) -> bool:
        """End after the task or the wait that is under way."""
        if force:
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        return False

    @task(6)
    def put_some(self) -> None:
        made = [self._make(str(uuid4())) for _ in range(random.randint(1, MOST_AT_ONCE))]
        self._write(lambda: self._rpcs.put_entries(self._location, made), self._entries | _by_id(made))

    @task(4)
    def change_some(self) -> None:
        changed = [self._make(each) for each in self._choose()]
        if changed:
            self._write(
                lambda: self._rpcs.put_entries(self._location, changed), self._entries | _by_id(changed)
            )

    @task(3)
    def delete_some(self) -> None:
        gone = self._choose()
        if gone:
            left = {key: entry for key, entry in self._entries.items() if key not in gone}
            self._write(lambda: self._rpcs.delete_entries(self._location, gone), left)

    @task(1)
    def commit_whole(self) -> None:
        """Index again: most entries are as they were, and what is not among them goes."""
        kept = random.sample(list(self._entries), k=len(self._entries) * 9 // 10)
        entries = {key: self._entries[key] for key in kept} | _by_id([self._make(str(uuid4()))])
        self._write(lambda: self._rpcs.commit_whole(self._location, list(entries.values())), entries)

    @task(2)
    def read(self) -> None:
        if self._location in self.unknown:
            return
        try:
            found = sum(1 for _ in self._rpcs.list_all(self._location))
        except grpc.RpcError:
            return
        if found != len(self._entries):
            raise AssertionError(
                f"{found} entries are in {self._location}, and {len(self._entries)} were acknowledged"
            )

    def _write(self, write: Any, after: dict[str, pb.Entry]) -> None:
        """Writes may be sent again; a whole commit makes good what has no answer."""
        try:
            write()
            if self._location in self.unknown:
                self._rpcs.commit_whole(self._location, list(after.values()))
        except grpc.RpcError:
            self.unknown.add(self._location)
            return
        self.unknown.discard(self._location)
        self._entries.clear()
        self._entries.update(after)

    def _choose(self) -> list[str]:
        return random.sample(list(self._entries), k=min(len(self._entries), random.randint(1, MOST_AT_ONCE)))

    def _make(self, key: str) -> pb.Entry:
        self._count += 1
        return pb.Entry(entry_id=key, kind="file", name=f"file {self._count}", size_bytes=self._count)


def _by_id(entries: list[pb.Entry]) -> dict[str, pb.Entry]:
    return {entry.entry_id: entry for entry in entries}


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prepare(environment: Any, **_: Any) -> None:
    """Let calls under way end before the users do, so that their outcome is known."""
    environment.stop_timeout = max(environment.stop_timeout, STOP_SECONDS)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prove(environment: Any, **_: Any) -> None:
    """Read everything back. The exit code is 1 unless it is as it was acknowledged, here and at the peer."""
    address, peer = str(environment.host or Indexer.host), os.environ.get("LOAD_PEER", "")
    wrong = _differences(address, 0.0) + (_differences(peer, PEER_SECONDS) if peer else [])
    entries = sum(map(len, Indexer.expected.values()))
    print(
        f"{entries:,} entries in {len(Indexer.expected)} locations, {len(Indexer.unknown)} of unknown outcome"
    )
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    is_right = entries > 0 and not wrong and not environment.runner.exceptions
    environment.process_exit_code = 0 if is_right else 1


def _differences(address: str, patience_s: float) -> list[str]:
    """What differs there from what was acknowledged, after a while."""
    rpcs = EntryRpcs(address, lambda **_: None)
    deadline = time.monotonic() + patience_s
    try:
        while True:
            wrong = [
                f"location {location} at {address} has {len(found):,} entries, other than the {len(expected):,} that "
                "were acknowledged"
                for location, expected in Indexer.expected.items()
                if location not in Indexer.unknown and (found := _read(rpcs, location)) != _plain(expected)
            ]
            if not wrong or time.monotonic() > deadline:
                return wrong
            gevent.sleep(0.5)
    except grpc.RpcError as error:
        return [f"cannot read the entries back from {address}: {error}"]
    finally:
        rpcs.close()


def _read(rpcs: EntryRpcs, location: str) -> dict[str, tuple[str, int]]:
    return _plain({entry.entry_id: entry for entry in rpcs.list_all(location)})


def _plain(entries: dict[str, pb.Entry]) -> dict[str, tuple[str, int]]:
    return {key: (entry.name, entry.size_bytes) for key, entry in entries.items()}


USER = Indexer
