"""Encodes entries."""

from libs.domain.entry import Entry, unsigned
from tally.counting.v1 import counting_pb2 as pb


def write_entry(entry: Entry) -> pb.Entry:
    """An entry as a shard reads it."""
    return pb.Entry(
        request_id=entry.request_id.bytes,
        partition=entry.partition,
        request_hash=unsigned(entry.request_hash),
        event_count=len(entry.events),
        payload=entry.payload,
        traceparent=entry.traceparent,
    )
