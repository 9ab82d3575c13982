"""A shard that serves, but belongs to another cluster, is not one to send entries to."""

import pytest

from libs.rpc.probe import NoAnswer
from services.partitioner.routing.membership import Membership
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.errors import DeadlineExceeded, TallyError, Unavailable, Unimplemented

OWN = ClusterIdentity(cluster_id="ours", epoch=1, partition_count=16)
OTHER = ClusterIdentity(cluster_id="theirs", epoch=1, partition_count=16)


class Peer:
    """What is at the address."""

    def __init__(self) -> None:
        self.health: bool | NoAnswer = True
        self.identity: ClusterIdentity | TallyError = OWN
        self.identity_calls = 0

    async def is_serving(self, _timeout_s: float) -> bool:
        if isinstance(self.health, NoAnswer):
            raise self.health
        return self.health

    async def tell_identity(self, timeout_s: float) -> ClusterIdentity:
        assert 0 < timeout_s <= 1.0
        self.identity_calls += 1
        if isinstance(self.identity, TallyError):
            raise self.identity
        return self.identity


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def membership(peer: Peer) -> Membership:
    return Membership("shard:1", OWN, peer.is_serving, peer.tell_identity)


async def test_a_shard_of_this_cluster_is_asked_once(peer: Peer, membership: Membership) -> None:
    assert [await membership.is_serving(1.0) for _ in range(5)] == [True] * 5
    assert peer.identity_calls == 1


async def test_a_shard_of_another_cluster_never_serves_and_both_are_logged_once(
    peer: Peer, membership: Membership, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.identity = OTHER
    assert [await membership.is_serving(1.0) for _ in range(3)] == [False] * 3
    told = capsys.readouterr().out
    assert told.count("a shard of another cluster is in the list") == 1
    assert "cluster theirs (epoch 1, 16 partitions)" in told
    assert "cluster ours (epoch 1, 16 partitions)" in told
    peer.identity = OWN
    assert await membership.is_serving(1.0)


@pytest.mark.parametrize("gone", [False, NoAnswer("gone")], ids=str)
async def test_whoever_comes_back_at_the_address_is_asked_again(
    peer: Peer, membership: Membership, gone: bool | NoAnswer
) -> None:
    assert await membership.is_serving(1.0)
    peer.health, peer.identity = gone, OTHER
    if isinstance(gone, NoAnswer):
        with pytest.raises(NoAnswer):
            await membership.is_serving(1.0)
    else:
        assert not await membership.is_serving(1.0)
    peer.health = True
    assert not await membership.is_serving(1.0)


async def test_a_shard_that_refused_a_call_is_asked_again(peer: Peer, membership: Membership) -> None:
    assert await membership.is_serving(1.0)
    peer.identity = OTHER
    membership.doubt()
    assert not await membership.is_serving(1.0)


async def test_a_shard_that_cannot_tell_its_cluster_does_not_serve(
    peer: Peer, membership: Membership
) -> None:
    peer.identity = Unimplemented("no such call")
    assert not await membership.is_serving(1.0)


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("late")], ids=str)
async def test_no_answer_about_the_cluster_is_no_answer(
    peer: Peer, membership: Membership, error: TallyError
) -> None:
    peer.identity = error
    with pytest.raises(NoAnswer):
        await membership.is_serving(1.0)
