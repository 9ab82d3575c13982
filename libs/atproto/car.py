"""CAR files: a header, and blocks with their CIDs, in frames (https://ipld.io/specs/transport/car/carv1/)."""

from dataclasses import dataclass

import libipld

from libs.atproto import cid
from libs.atproto.defects import Defect, Reason

_LONGEST_VARINT = 9
"""bytes; nothing that fits into memory needs more"""


@dataclass(frozen=True, slots=True)
class Car:
    """The blocks of a file by their CIDs. None of them was hashed yet: `block` does that."""

    root: bytes
    blocks: dict[bytes, memoryview]

    def block(self, wanted: bytes) -> bytes:
        """The bytes behind a CID. Raises Defect when they are missing, or are not those that the CID names."""
        found = self.blocks.get(wanted)
        if found is None:
            raise Defect(Reason.BLOCK_MISSING, f"the block {cid.to_text(wanted)} is missing")
        data = bytes(found)
        if cid.cid_of(data, wanted[1]) != wanted:
            raise Defect(
                Reason.BLOCK_CHANGED, f"the block {cid.to_text(wanted)} has other bytes than its CID says"
            )
        return data


def read_car(data: bytes, max_blocks: int) -> Car:
    """Take a file apart, without copying its blocks. Raises Defect when it is cut off, malformed, or too large."""
    view = memoryview(data)
    header, position = _frame(view, 0)
    root = _read_header(bytes(header))
    blocks: dict[bytes, memoryview] = {}
    count = 0
    while position < len(view):
        frame, position = _frame(view, position)
        count += 1
        if count > max_blocks:
            raise Defect(Reason.LIMIT_EXCEEDED, f"the file has more than {max_blocks} blocks")
        key = bytes(frame[: cid.LENGTH])
        if cid.is_supported(key):
            # A later block of the same CID must not replace the first: each is checked only when it is used.
            blocks.setdefault(key, frame[cid.LENGTH :])
    return Car(root, blocks)


def write_car(root: bytes, blocks: dict[bytes, bytes]) -> bytes:
    """The file of these blocks, in their order."""
    frames = [libipld.encode_dag_cbor({"version": 1, "roots": [root]})]
    frames += [key + data for key, data in blocks.items()]
    return b"".join(_varint(len(frame)) + frame for frame in frames)


def _read_header(block: bytes) -> bytes:
    try:
        header = libipld.decode_dag_cbor(block)
    except ValueError as error:
        raise Defect(Reason.CAR_MALFORMED, f"the header is not DAG-CBOR: {error}") from error
    match header:
        case {"version": 1, "roots": [bytes() as root, *_]} if cid.is_dag_cbor(root):
            return root
    raise Defect(Reason.CAR_MALFORMED, "the header is not that of a CAR of version 1 with a root")


def _frame(view: memoryview, position: int) -> tuple[memoryview, int]:
    length, begin = _read_varint(view, position)
    end = begin + length
    if end > len(view):
        raise Defect(Reason.CAR_TRUNCATED, "the file ends inside a block")
    if length == 0:
        raise Defect(Reason.CAR_MALFORMED, "the file has an empty frame")
    return view[begin:end], end


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    number = 0
    for index in range(_LONGEST_VARINT):
        if position + index >= len(view):
            raise Defect(Reason.CAR_TRUNCATED, "the file ends inside a block")
        byte = view[position + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, position + index + 1
    raise Defect(Reason.CAR_MALFORMED, "a frame's length has no end")


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
