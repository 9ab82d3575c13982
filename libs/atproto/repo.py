"""A repository, verified from its CAR file: every record that the signed tree reaches, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

from libs.atproto.car import Car, read_car
from libs.atproto.commit import Commit, check_signature, read_commit
from libs.atproto.defects import Defect, Reason
from libs.atproto.keys import PublicKey
from libs.atproto.tree import walk

MAX_BLOCKS = 10_000_000
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a repository."""

    collection: str
    key: str
    cid: bytes
    block: bytes
    """its DAG-CBOR"""


class Repo:
    """A repository whose commit was checked. `records` checks each block, and the tree, while it reads them."""

    def __init__(self, commit: Commit, car: Car) -> None:
        self.commit = commit
        self._car = car

    @property
    def did(self) -> str:
        return self.commit.did

    @property
    def rev(self) -> str:
        return self.commit.rev

    def records(self) -> Iterator[Record]:
        """Every record in the order of its key. Raises Defect; what was given before it must then not be kept."""
        for path, value in walk(self.commit.data, self._car.block):
            block = self._car.block(value)
            if len(block) > MAX_RECORD_BYTES:
                raise Defect(
                    Reason.LIMIT_EXCEEDED, f"the record {path} has more than {MAX_RECORD_BYTES} bytes"
                )
            collection, _, key = path.partition("/")
            yield Record(collection, key, value, block)


def open_repo(data: bytes, did: str, key: PublicKey | None, *, max_blocks: int = MAX_BLOCKS) -> Repo:
    """The repository of `did` in a CAR file. Without a key its signature is not checked.

    Raises Defect when the file, the commit or the signature is wrong, or the repository belongs to another account.
    """
    car = read_car(data, max_blocks)
    commit = read_commit(car.block(car.root))
    if commit.did != did:
        raise Defect(Reason.WRONG_REPO, f"the repository is that of {commit.did}, not of {did}")
    if key is not None:
        check_signature(commit, key)
    return Repo(commit, car)
