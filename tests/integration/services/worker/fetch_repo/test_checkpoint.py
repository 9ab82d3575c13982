"""The checkpoint: what was kept is there in the next life, and leaves once."""

from pathlib import Path

from libs.dataset.rows import LIKE, POST, Row
from services.worker.handlers.fetch_repo.checkpoint import Checkpoint, Kept
from services.worker.handlers.fetch_repo.verifying import Fetched


def make_row(did: str, collection: str, number: int) -> Row:
    return Row(
        *(number % 3, did, collection, f"{number:03}", f"at://{did}/{number}", "cid", "rev", None),
        *(
            number,
            "rev",
            None,
            number % 2 == 0,
            None,
            None,
            None if number else "{}",
            b"\0" if number else None,
        ),
    )


def make_fetched(did: str, count: int = 4) -> Fetched:
    rows = [make_row(did, collection, number) for collection in (POST, LIKE) for number in range(count)]
    return Fetched(did, "rev", rows)


def test_what_was_kept_is_there_in_the_next_life_and_comes_in_the_order_of_parts(tmp_path: Path) -> None:
    accounts = [make_fetched("did:b"), make_fetched("did:a")]
    first = Checkpoint(tmp_path)
    first.save(accounts)
    first.close()
    second = Checkpoint(tmp_path)
    kept = [Kept(each.did, "rev", 8, each.byte_count) for each in (accounts[1], accounts[0])]
    assert second.list_accounts() == kept
    assert second.begin_delivery() == kept
    parts = list(second.leaving_parts())
    assert [part[0].collection for part in parts] == [LIKE, POST]
    for part in parts:
        rows = [row for each in accounts for row in each.rows if row.collection == part[0].collection]
        assert list(part) == sorted(rows, key=lambda row: (row.bucket, row.did, row.rkey))
        assert all(type(row.has_video) is bool for row in part)
    second.close()


def test_what_comes_during_a_delivery_stays(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save([make_fetched("did:a")])
    assert [each.did for each in checkpoint.begin_delivery()] == ["did:a"]
    checkpoint.save([make_fetched("did:b")])
    assert {row.did for part in checkpoint.leaving_parts() for row in part} == {"did:a"}
    checkpoint.end_delivery()
    assert [each.did for each in checkpoint.list_accounts()] == ["did:b"]
    assert [each.did for each in checkpoint.begin_delivery()] == ["did:b"]
    checkpoint.close()


def test_a_delivery_that_came_to_nothing_is_begun_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save([make_fetched("did:a")])
    first = checkpoint.begin_delivery()
    checkpoint.close()
    again = Checkpoint(tmp_path)
    assert again.begin_delivery() == first
    again.close()


def test_two_processes_have_files_of_their_own_and_a_free_one_is_taken_first(tmp_path: Path) -> None:
    one, two = Checkpoint(tmp_path), Checkpoint(tmp_path)
    one.save([make_fetched("did:a")])
    assert two.list_accounts() == []
    assert one.work_folder != two.work_folder
    one.close()
    three = Checkpoint(tmp_path)
    assert [each.did for each in three.list_accounts()] == ["did:a"]
    two.close()
    three.close()
