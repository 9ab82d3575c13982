"""Records as rows, and rows in parts."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.atproto.cid import cid_of
from libs.atproto.keys import read_multikey
from libs.atproto.repo import open_repo
from libs.atproto.syntax import make_tid
from libs.dataset.parts import open_duckdb, write_part
from libs.dataset.rows import POST, RevOutOfRange, Row, bucket_of, check_rev, rows_of
from loadtests.simulators.repos import Signer, make_car

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
REV_US = 1_750_000_000_000_000
REV = make_tid(REV_US)
VIDEO = {"$type": "app.bsky.embed.video", "video": {"ref": cid_of(b"v", 0x55)}}
QUOTE = {"$type": "app.bsky.embed.record"}


def rows(records: dict[str, Any]) -> list[Row]:
    signer = Signer()
    repo = open_repo(make_car(records, signer, DID, REV), DID, read_multikey(signer.multikey))
    return list(rows_of(repo, REV_US))


def test_the_bucket_of_an_account_is_frozen() -> None:
    assert [bucket_of(did) for did in (DID, "did:web:example.com", "")] == [9, 21, 2]


@pytest.mark.parametrize(
    ("embed", "expected"),
    [
        (VIDEO, True),
        ({"$type": "app.bsky.embed.recordWithMedia", "media": VIDEO, "record": QUOTE}, True),
        ({"$type": "app.bsky.embed.recordWithMedia", "media": {"$type": "app.bsky.embed.images"}}, False),
        ({"$type": "app.bsky.embed.recordWithMedia", "media": "app.bsky.embed.video"}, False),
        ({"$type": "app.bsky.embed.video.view"}, False),
        ({"media": VIDEO}, False),
        (QUOTE, False),
        ("app.bsky.embed.video", False),
        (None, False),
    ],
)
def test_a_post_has_a_video_alone_or_beside_a_quote(embed: object, expected: bool) -> None:
    (row,) = rows({f"{POST}/3l2222222222a": {"$type": POST, "embed": embed}})
    assert row.has_video is expected
    (other,) = rows({"com.example.post/3l2222222222a": {"embed": embed}})
    assert not other.has_video


def test_a_row_holds_the_record_as_json_or_as_what_it_was() -> None:
    plain, strange = rows(
        {
            "app.bsky.feed.like/3l2222222222a": {"subject": {"uri": "at://x"}, "createdAt": "tomorrow"},
            "com.example.x/self": {"number": 1.5},
        }
    )
    assert (plain.uri, plain.subject, plain.created_at) == (
        f"at://{DID}/app.bsky.feed.like/3l2222222222a",
        "at://x",
        "tomorrow",
    )
    assert json.loads(str(plain.record)) == {"subject": {"uri": "at://x"}, "createdAt": "tomorrow"}
    assert plain.cbor is None
    assert strange.record is None
    assert strange.cbor is not None


def test_a_record_whose_fields_have_other_types_is_a_row_all_the_same() -> None:
    odd = [7, "text", None, [1], {"subject": "x", "text": 1, "langs": "en", "createdAt": []}]
    found = rows({f"app.bsky.feed.like/{number}": value for number, value in enumerate(odd)})
    assert [(row.subject, row.text, row.languages, row.created_at) for row in found] == [(None,) * 4] * 5


def test_a_rev_of_the_future_or_before_2000_is_refused() -> None:
    """T002-34"""
    assert check_rev(REV, REV_US - 299_000_000) == REV_US
    for rev, now_us in ((REV, REV_US - 301_000_000), (make_tid(0), REV_US)):
        with pytest.raises(RevOutOfRange):
            check_rev(rev, now_us)


def test_the_same_rows_make_the_same_part_whatever_their_order(tmp_path: Path) -> None:
    """002-42"""
    some = [
        Row(
            bucket=n % 3,
            did=f"did:{n % 3}",
            collection=POST,
            rkey=f"{n:02}",
            uri=f"at://{n}",
            cid="c",
            rev=REV,
            created_at=None,
            time_us=n,
            time_source="rev",
            subject=None,
            has_video=n % 2 == 0,
            text=None,
            languages=None,
            record="{}" if n % 5 else None,
            cbor=None if n % 5 else bytes([n, 0]),
        )
        for n in range(50)
    ]
    made = []
    for rows_in_order in (some, some[::-1]):
        with open_duckdb() as connection:
            made.append(write_part(connection, rows_in_order, tmp_path))
    assert made[0] == made[1]
    with open_duckdb() as connection:
        read = connection.execute("select * from read_parquet([?])", [str(made[0].path)]).fetchall()
    assert read == sorted((tuple(row) for row in some), key=lambda row: (row[0], row[1], row[3]))
