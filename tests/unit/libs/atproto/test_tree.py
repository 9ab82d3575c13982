"""The tree of keys: its shape follows from the keys, and a tree of another shape is refused."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.atproto import cid, dag_cbor
from libs.atproto.defects import Defect, Reason
from libs.atproto.tree import build, count_common, layer_of, walk
from tests.unit.libs.atproto.vectors import read_json, read_lines

VALUE = cid.cid_of(b"a record")
KEYS = st.sets(st.from_regex(r"com\.example\.[a-c]/[a-z0-9]{1,6}", fullmatch=True), max_size=60)


def entries_of(keys: Any) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), cid.cid_of(key.encode())) for key in sorted(keys)]


def read_all(root: bytes, blocks: dict[bytes, bytes]) -> list[tuple[str, bytes]]:
    return list(walk(root, blocks.__getitem__))


def refused_for(root: bytes, blocks: dict[bytes, bytes]) -> str:
    with pytest.raises(Defect) as refused:
        read_all(root, blocks)
    assert refused.value.reason is Reason.TREE_MALFORMED
    return str(refused.value)


@pytest.mark.parametrize("case", read_json("mst/key_heights.json"), ids=lambda case: case["key"])
def test_a_key_is_on_the_layer_of_its_hash(case: dict[str, Any]) -> None:
    assert layer_of(case["key"].encode()) == case["height"]


@pytest.mark.parametrize("case", read_json("mst/common_prefix.json"))
def test_what_two_keys_share_is_counted_in_bytes(case: dict[str, Any]) -> None:
    assert count_common(case["left"].encode(), case["right"].encode()) == case["len"]


def test_the_example_keys_are_on_the_layers_that_their_names_say() -> None:
    for key in read_lines("mst/example_keys.txt"):
        assert layer_of(key.encode()) == int(key[1])


@pytest.mark.parametrize(
    "case", read_json("firehose/commit-proof-fixtures.json"), ids=lambda case: case["comment"]
)
def test_the_roots_of_the_protocols_examples_come_out(case: dict[str, Any]) -> None:
    value = cid.from_text(case["leafValue"])
    before = set(case["keys"])
    after = before | set(case["adds"]) - set(case["dels"])
    after -= set(case["dels"])
    for keys, root in ((before, case["rootBeforeCommit"]), (after, case["rootAfterCommit"])):
        made, blocks = build([(key.encode(), value) for key in sorted(keys)])
        assert cid.to_text(made) == root
        if keys is after:
            assert {cid.from_text(each) for each in case["blocksInProof"]} <= blocks.keys() | {value}


@given(KEYS)
def test_a_tree_gives_back_its_keys_in_order(keys: set[str]) -> None:
    root, blocks = build(entries_of(keys))
    assert read_all(root, blocks) == [(key.decode(), value) for key, value in entries_of(keys)]


@given(KEYS.filter(lambda keys: len(keys) > 1), st.randoms(use_true_random=False))
def test_no_other_node_takes_the_place_of_one(keys: set[str], chance: random.Random) -> None:
    """T002-32: whatever is changed in a node and hashed anew is refused, or is the tree of other keys."""
    root, blocks = build(entries_of(keys))
    node = dag_cbor.decode(blocks[root], Reason.TREE_MALFORMED)
    change = chance.choice(["swap", "drop", "prefix", "extra", "below"])
    entries = node["e"]
    if change == "swap" and len(entries) > 1:
        entries[0], entries[1] = entries[1], entries[0]
    elif change == "prefix":
        entries[-1]["p"] += 1
    elif change == "extra":
        node["x"] = 1
    elif change == "below":
        entries[0]["t"], node["l"] = node["l"], entries[0]["t"]
    else:
        entries.pop()
    changed = dag_cbor.encode(node)
    made = cid.cid_of(changed)
    if made == root:
        return
    try:
        found = read_all(made, {**blocks, made: changed})
    except Defect:
        return
    assert build([(key.encode(), value) for key, value in found])[0] == made


def node_of(left: bytes | None, *entries: dict[str, Any]) -> tuple[bytes, dict[bytes, bytes]]:
    block = dag_cbor.encode({"l": left, "e": list(entries)})
    return cid.cid_of(block), {cid.cid_of(block): block}


def entry(key: str, shared: int = 0, below: bytes | None = None) -> dict[str, Any]:
    return {"p": shared, "k": key.encode(), "v": VALUE, "t": below}


def test_an_empty_tree_is_one_empty_node() -> None:
    assert read_all(*build([])) == []
    assert build([])[0] == node_of(None)[0]


def test_each_broken_rule_is_named() -> None:
    low, lower = "com.example.a/a", "com.example.a/b"
    assert layer_of(low.encode()) == layer_of(lower.encode()) == 0
    assert "shortened" in refused_for(*node_of(None, entry(low), entry(lower)))
    assert "order" in refused_for(*node_of(None, entry(lower), entry("a", shared=14)))
    assert "order" in refused_for(*node_of(None, entry(low), entry("", shared=15)))
    assert "collection" in refused_for(*node_of(None, entry("com.example.a/")))
    assert "collection" in refused_for(*node_of(None, entry("nothing")))
    empty, blocks = node_of(None)
    assert "below" in refused_for(*node_of(None, entry(low, below=empty)))
    root, own = node_of(empty)
    assert "root" in refused_for(root, {**blocks, **own})
    assert "fields" in refused_for(*node_of(None, {"p": 0, "k": b"a", "v": VALUE}))


def test_a_key_on_another_layer_than_its_own_is_refused() -> None:
    high = next(key for key in (f"com.example.a/{n}" for n in range(100)) if layer_of(key.encode()) == 1)
    low = next(key for key in (f"com.example.b/{n}" for n in range(100)) if layer_of(key.encode()) == 0)
    shared = count_common(high.encode(), low.encode())
    assert "layer" in refused_for(*node_of(None, entry(high), entry(low[shared:], shared=shared)))
