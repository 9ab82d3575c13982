"""A call that is meant for another cluster is refused, and the error names both."""

import uuid

import pytest

from libs.rpc.cluster_identity import ClusterCheck, identity_of
from libs.stores.schema import Cluster
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.errors import ClusterMismatch

ID = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER_ID = "01890a5d-ac96-774b-bcce-000000000000"
CHECK = ClusterCheck(identity_of(Cluster(ID, 16, 3)))


def test_a_call_for_this_cluster_passes() -> None:
    CHECK.check(ClusterIdentity(cluster_id=str(ID), epoch=3, partition_count=16))


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (
            ClusterIdentity(cluster_id=OTHER_ID, epoch=3, partition_count=16),
            f"cluster {OTHER_ID} (epoch 3, 16 partitions)",
        ),
        (
            ClusterIdentity(cluster_id=str(ID), epoch=2, partition_count=16),
            f"cluster {ID} (epoch 2, 16 partitions)",
        ),
        (
            ClusterIdentity(cluster_id=str(ID), epoch=3, partition_count=64),
            f"cluster {ID} (epoch 3, 64 partitions)",
        ),
        (ClusterIdentity(), "no cluster"),
    ],
)
def test_any_difference_is_refused_with_both_values(sent: ClusterIdentity, named: str) -> None:
    with pytest.raises(ClusterMismatch) as caught:
        CHECK.check(sent)
    own = f"cluster {ID} (epoch 3, 16 partitions)"
    assert caught.value.message.startswith(f"this call is for {named}")
    assert f"the server belongs to {own}" in caught.value.message
    assert caught.value.metadata["own"] == own
    assert caught.value.metadata["sent"].startswith(named)
