"""What the clients of a round sent, and what they were told.

A client notes a request before its first attempt and a receipt when it has one. So a request without a receipt is one
whose outcome nobody knows: it may be counted, all of it or the entries of some partitions.
"""

import json
import os
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.domain.partition import partition_of
from libs.rpc.columns import decode
from tally.client import Batch, Columns, Durability, Receipt
from tally.ingest.v1.ingest_pb2 import ProcessEventsRequest
from tests.support.entries import counts_of

Key = tuple[str, str]
"""video id, event type"""


@dataclass(slots=True)
class Request:
    """One request, however often it is sent."""

    request_id: str
    events: Counter[Key]
    durability: Durability | None = None
    """of its first receipt; None while there is none"""
    accepted: int = 0
    """events that were answered as counted, over all its receipts"""
    is_journaled_only: bool = True
    """whether no receipt said SPOOLED: then each of its events may have been accepted once at most"""

    @property
    def event_count(self) -> int:
        return self.events.total()

    def partitions(self, partition_count: int) -> set[int]:
        """Those that it has entries for."""
        return {partition_of(video, partition_count) for video, _ in self.events}


@dataclass(slots=True)
class Ledger:
    """The requests of a round by their ids, and what was answered that may not be."""

    requests: dict[str, Request] = field(default_factory=dict)
    sent: Counter[Key] = field(default_factory=Counter)
    """the events of all requests"""
    journaled: Counter[Key] = field(default_factory=Counter)
    """the events of those whose first receipt says that they are in the journal"""
    wrong: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    """calls that ended without a receipt, by the reason that the error gave"""
    broken_streams: Counter[str] = field(default_factory=Counter)
    """streams that broke, and batches refused on one, by the reason; their batches were sent again"""
    duplicates: int = 0
    """requests that were sent once more although their first attempt was not known to have failed"""

    def send(self, request: Request) -> None:
        """To be called before the first attempt."""
        self.requests[request.request_id] = request
        self.sent.update(request.events)

    def acknowledge(self, request: Request, accepted: int, duplicate: int, durability: Durability) -> None:
        """To be called with every receipt of a request."""
        if accepted + duplicate != request.event_count:
            self.wrong.append(
                f"request {request.request_id} has {request.event_count} events, and its receipt speaks of "
                f"{accepted} accepted and {duplicate} duplicate"
            )
        request.accepted += accepted
        request.is_journaled_only &= durability is Durability.JOURNALED
        if request.is_journaled_only and request.accepted > request.event_count:
            self.wrong.append(
                f"request {request.request_id} has {request.event_count} events, and {request.accepted} were "
                "answered as accepted"
            )
        if not request.durability:
            request.durability = durability
            if durability is Durability.JOURNALED:
                self.journaled.update(request.events)

    @property
    def acknowledged(self) -> list[Request]:
        """The requests with a receipt."""
        return [request for request in self.requests.values() if request.durability]

    @property
    def unknown(self) -> list[Request]:
        """The requests without one."""
        return [request for request in self.requests.values() if not request.durability]

    def merge(self, other: "Ledger") -> None:
        """Add what another client noted."""
        self.requests |= other.requests
        self.sent.update(other.sent)
        self.journaled.update(other.journaled)
        self.wrong += other.wrong
        self.failures += other.failures
        self.broken_streams += other.broken_streams
        self.duplicates += other.duplicates


def total(requests: Iterable[Request]) -> Counter[Key]:
    """The events of requests by video and event type."""
    events: Counter[Key] = Counter()
    for request in requests:
        events.update(request.events)
    return events


class LedgerFile:
    """A ledger that outlives the process that writes it: a line of JSON for each thing that happens.

    Each line is one write to a file opened for appending, so a killed writer leaves at most its last line cut
    short; what that line would have said had not begun.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, b"\n")  # ends a line that an earlier life had begun

    def begin(self) -> None:
        """The client is new: what lay in the buffer of the one before is lost."""
        self._write({"began": True})

    def offer(self, event: Key) -> None:
        """To be called before an event is handed in, which is lost when the client is killed before it is sent."""
        self._write({"offered": event})

    def send(self, batch: Batch) -> None:
        """To be called before the first attempt. The bytes are kept: under this id no others may be sent."""
        self._write({"sent": batch.request_id, "payload": b64encode(batch.payload).decode()})

    def acknowledge(self, receipt: Receipt) -> None:
        """To be called with every receipt."""
        accepted, duplicate = receipt.accepted_count, receipt.duplicate_count
        answered = {"accepted": accepted, "duplicate": duplicate, "durability": receipt.durability.value}
        self._write({"acknowledged": receipt.request_id, **answered})

    def fail(self, reason: str) -> None:
        self._write({"failed": reason})

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


@dataclass(slots=True)
class Kept:
    """What a ledger file says."""

    ledger: Ledger = field(default_factory=Ledger)
    batches: dict[str, Batch] = field(default_factory=dict)
    """by request id"""
    lost: Counter[Key] = field(default_factory=Counter)
    """events that were offered and never sent: lost with the client, and declared to be"""

    @property
    def unanswered(self) -> list[Batch]:
        """The batches without a receipt."""
        return [self.batches[request.request_id] for request in self.ledger.unknown]


def read_ledger(path: Path) -> Kept:
    """Read what one or more lives of a client have written."""
    kept = Kept()
    offered: Counter[Key] = Counter()
    sent: Counter[Key] = Counter()

    def end_life() -> None:
        kept.lost += offered - sent
        if surplus := sent - offered:
            kept.ledger.wrong.append(f"events were sent that had not been handed in, or twice: {surplus}")
        offered.clear()
        sent.clear()

    for line in _lines(path):
        if "began" in line:
            end_life()
        elif "offered" in line:
            offered[tuple(line["offered"])] += 1
        elif "sent" in line:
            batch = read_batch(b64decode(line["payload"]))
            events = counts_of(decode(batch.columns.to_message()))
            kept.ledger.send(Request(line["sent"], events))
            kept.batches[line["sent"]] = batch
            sent.update(events)
        elif "acknowledged" in line:
            request = kept.ledger.requests[line["acknowledged"]]
            durability = Durability(line["durability"])
            kept.ledger.acknowledge(request, line["accepted"], line["duplicate"], durability)
        else:
            kept.ledger.failures[line["failed"]] += 1
    end_life()
    return kept


def read_batch(payload: bytes) -> Batch:
    """A batch whose bytes are these."""
    message = ProcessEventsRequest.FromString(payload)
    columns = Columns(
        video_ids=tuple(message.columns.video_ids),
        event_types=tuple(message.columns.event_types),
        video_index=message.columns.video_index,
        event_type_index=message.columns.event_type_index,
        actor_ids=tuple(message.columns.actor_ids),
        actor_index=message.columns.actor_index,
        event_time_us=message.columns.event_time_us,
        value=message.columns.value,
    )
    return Batch(message.request_id, columns)


def _lines(path: Path) -> Iterator[Any]:
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                continue  # cut short by a kill, or the empty end
