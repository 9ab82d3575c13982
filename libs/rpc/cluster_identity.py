"""The cluster that an internal call is meant for: every such request carries it, and the server compares it.

Without it a shard of another cluster that got into the list of shards would journal, and acknowledge, entries that
nobody finds again.
"""

from libs.stores.schema import Cluster
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.errors import ClusterMismatch

_ABSENT = ClusterIdentity()


def identity_of(cluster: Cluster) -> ClusterIdentity:
    """What the calls of this cluster carry."""
    return ClusterIdentity(
        cluster_id=str(cluster.cluster_id), epoch=cluster.epoch, partition_count=cluster.partition_count
    )


class ClusterCheck:
    """Refuses what is meant for another cluster. One comparison for each call, in compiled code."""

    def __init__(self, own: ClusterIdentity) -> None:
        self.own = own

    def check(self, sent: ClusterIdentity) -> None:
        """Raises ClusterMismatch, also when no identity was sent."""
        if sent != self.own:
            raise mismatch("this call is for", sent, "the server", self.own)


def mismatch(subject: str, named: ClusterIdentity, other: str, own: ClusterIdentity) -> ClusterMismatch:
    """The error with both values: `subject` is a clause that ends before `named`, `other` is what has `own`."""
    return ClusterMismatch(
        f"{subject} {describe(named)}, and {other} belongs to {describe(own)}. Check the address that was called "
        "(TALLY_PARTITIONER__SHARDS, or --address), and start the caller again if the cluster was restored",
        metadata={"sent": describe(named), "own": describe(own)},
    )


def describe(identity: ClusterIdentity) -> str:
    """The identity in words."""
    if identity == _ABSENT:
        return "no cluster (the request has no `cluster`)"
    return f"cluster {identity.cluster_id} (epoch {identity.epoch}, {identity.partition_count} partitions)"
