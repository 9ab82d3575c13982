"""Rows ↔ messages, and what is refused of a peer's bytes."""

import os
import time
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.replication.rows import EntryRow, LocationRow, Place, Row, TombstoneRow
from services.replication.wire import (
    compress_batch,
    read_change,
    read_columns,
    unpack,
    unpack_batch,
    write_change,
    write_columns,
)
from tally.contract.errors import DataLoss, InvalidRequest
from tally.replication.v1 import peers_pb2 as pb

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
versions = st.integers(1, 2**62)
micros = st.integers(0, 10**16)
entries = st.builds(
    EntryRow,
    st.uuids(),
    st.uuids(),
    st.none() | st.uuids(),
    texts,
    texts,
    st.integers(0, 2**62),
    micros,
    st.binary(max_size=32),
    texts,
    versions,
)
locations = st.builds(LocationRow, st.uuids(), texts, texts, st.integers(0, 10**9), micros, versions)
tombstones = st.builds(TombstoneRow, st.none() | st.uuids(), st.uuids(), versions)


@given(
    st.lists(entries, unique_by=lambda row: row.uuid, max_size=8),
    st.lists(tombstones, max_size=3),
    st.lists(locations, max_size=3),
)
def test_columns_bring_back_the_rows(
    some: list[EntryRow], gone: list[TombstoneRow], places: list[LocationRow]
) -> None:
    rows: list[Row] = [*some, *gone, *places]
    columns = pb.Columns.FromString(write_columns(rows).SerializeToString())
    assert read_columns(columns) == rows


@given(entries | locations | tombstones)
def test_a_change_brings_back_its_row(row: Row) -> None:
    change = pb.StateChange.FromString(write_change(row, Place()).SerializeToString())
    assert read_change(change) == row


def test_what_compression_does_not_shrink_is_sent_as_it_is() -> None:
    """T003-34."""
    chance, plain = os.urandom(10_000), b"a" * 10_000
    assert compress_batch(chance, [pb.CODEC_GZIP], 1).codec == pb.CODEC_IDENTITY
    packed = compress_batch(plain, [pb.CODEC_GZIP], 1)
    assert packed.codec == pb.CODEC_GZIP
    assert len(packed.data) < 300
    assert unpack(packed.codec, packed.data, len(plain)) == plain


@pytest.mark.parametrize("stated", [10, 10**9])
def test_a_batch_that_inflates_to_more_than_it_states_is_refused(stated: int) -> None:
    """T003-11."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(b"\0" * 50_000_000) + packer.flush()
    with pytest.raises(InvalidRequest, match="unpacked_bytes"):
        unpack(pb.CODEC_GZIP, bomb, stated)


def test_a_wrong_checksum_is_data_loss() -> None:
    data = write_columns([]).SerializeToString()
    with pytest.raises(DataLoss):
        unpack_batch(
            pb.StateBatch(codec=pb.CODEC_IDENTITY, columns=data, unpacked_bytes=len(data), checksum=1)
        )


def test_a_notification_has_at_most_a_hundred_bytes() -> None:
    """T003-03."""
    message = pb.BulkIndexComplete(
        device_id=uuid.uuid4().bytes,
        location_id=uuid.uuid4().bytes,
        entry_count=10**12,
        changed_count=10**12,
    )
    message.indexed_at.FromNanoseconds(time.time_ns())
    assert message.ByteSize() <= 100
