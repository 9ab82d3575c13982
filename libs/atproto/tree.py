"""The tree of a repository's keys: a Merkle search tree (https://atproto.com/specs/repository#mst-structure).

A key belongs to the layer that its hash names, and a node to one layer. So the keys alone determine the tree and its
root; a tree of another shape is refused, although its hashes may be right.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from libs.atproto import cid, dag_cbor, syntax
from libs.atproto.defects import Defect, Reason

MAX_KEY_BYTES = 1024

BlockOf = Callable[[bytes], bytes]
"""The bytes behind a CID. Raises Defect when they are missing or changed."""


def layer_of(key: bytes) -> int:
    """The layer of a key: half of the leading zero bits of its SHA-256, rounded down."""
    digest = int.from_bytes(hashlib.sha256(key).digest())
    return (256 - digest.bit_length()) // 2


def count_common(one: bytes, other: bytes) -> int:
    """The number of bytes that both begin with."""
    shorter = min(len(one), len(other))
    for index in range(shorter):
        if one[index] != other[index]:
            return index
    return shorter


def walk(root: bytes, block_of: BlockOf) -> Iterator[tuple[str, bytes]]:
    """Each key with the CID of its record, in order. Raises Defect for every rule that the tree breaks."""
    last = b""
    for key, value in _walk(root, block_of, layer=None):
        if key <= last:
            raise _malformed("its keys are not in order")
        last = key
        yield _check_key(key), value


def _walk(node: bytes, block_of: BlockOf, layer: int | None) -> Iterator[tuple[bytes, bytes]]:
    """The keys of a node and of those below it; at most 128 nodes deep, for a hash has no more layers."""
    left, entries = _read_node(block_of(node))
    layer = _layer_of_node(left, entries, layer)
    if layer == 0 and (left is not None or any(below is not None for _, _, below in entries)):
        raise _malformed("a node of the lowest layer has nodes below it")
    if left is not None:
        yield from _walk(left, block_of, layer - 1)
    for key, value, below in entries:
        if layer_of(key) != layer:
            raise _malformed(f"the key {key!r} is on the wrong layer")
        yield key, value
        if below is not None:
            yield from _walk(below, block_of, layer - 1)


def _layer_of_node(left: bytes | None, entries: Sequence[Any], layer: int | None) -> int:
    if layer is not None:  # below another node
        if left is None and not entries:
            raise _malformed("a node below the root is empty")
        return layer
    if entries:
        return layer_of(entries[0][0])
    if left is not None:
        raise _malformed("the root has no key of its own, but a node below it")
    return 0


def _read_node(block: bytes) -> tuple[bytes | None, list[tuple[bytes, bytes, bytes | None]]]:
    """The node to the left, and each key with its record's CID and the node to its right."""
    match dag_cbor.decode(block, Reason.TREE_MALFORMED):
        case {"l": left, "e": list(written), **others} if not others and _is_link_or_none(left):
            pass
        case _:
            raise _malformed("a node does not have the fields of a node")
    entries = []
    last = b""
    for each in written:
        match each:
            case {"p": int(shared), "k": bytes(rest), "v": bytes(value), "t": below, **others} if (
                not others and cid.is_dag_cbor(value) and _is_link_or_none(below)
            ):
                key = last[:shared] + rest
            case _:
                raise _malformed("an entry does not have the fields of an entry")
        if not 0 <= shared <= len(last) or count_common(last, key) != shared:
            raise _malformed("a key is not shortened by what it shares with the one before")
        entries.append((key, value, below))
        last = key
    return left, entries


def _is_link_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, bytes) and cid.is_dag_cbor(value))


def _check_key(key: bytes) -> str:
    if len(key) > MAX_KEY_BYTES:
        raise _malformed(f"a key has more than {MAX_KEY_BYTES} bytes")
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed(f"the key {key!r} is not a collection and a record key") from None
    collection, slash, record_key = text.partition("/")
    if not (slash and syntax.is_nsid(collection) and syntax.is_record_key(record_key)):
        raise _malformed(f"the key {text!r} is not a collection and a record key")
    return text


def _malformed(what: str) -> Defect:
    return Defect(Reason.TREE_MALFORMED, what)


def build(entries: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, dict[bytes, bytes]]:
    """The root and the nodes, by their CIDs, of the tree of these keys and records, which are in the keys' order."""
    blocks: dict[bytes, bytes] = {}
    layers = [layer_of(key) for key, _ in entries]
    root = _build(entries, layers, max(layers, default=0), blocks)
    return root if root is not None else _put(None, [], blocks), blocks


def _build(
    entries: Sequence[tuple[bytes, bytes]], layers: Sequence[int], layer: int, blocks: dict[bytes, bytes]
) -> bytes | None:
    """The node of a layer over these keys, none of which is above it; None for no keys."""
    if not entries:
        return None
    own = [index for index, each in enumerate(layers) if each == layer]
    ends = [*own[1:], len(entries)]
    first = own[0] if own else len(entries)
    left = _build(entries[:first], layers[:first], layer - 1, blocks)
    written = []
    last = b""
    for index, end in zip(own, ends, strict=bool(own)):
        key, value = entries[index]
        shared = count_common(last, key)
        below = _build(entries[index + 1 : end], layers[index + 1 : end], layer - 1, blocks)
        written.append({"p": shared, "k": key[shared:], "v": value, "t": below})
        last = key
    return _put(left, written, blocks)


def _put(left: bytes | None, entries: list[dict[str, Any]], blocks: dict[bytes, bytes]) -> bytes:
    block = dag_cbor.encode({"l": left, "e": entries})
    key = cid.cid_of(block)
    blocks[key] = block
    return key
