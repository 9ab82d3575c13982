"""Which shard leads a partition, and which shards are next in rank.

Rendezvous hashing (Thaler and Ravishankar, 1998) ranks the shards of each partition by a hash of the pair, so
that a shard that comes or goes moves only what it has to; a bound on the load (in the spirit of Mirrokni,
Thorup and Zadimoghaddam, 2018) keeps one shard from leading more than its share.
"""

from collections.abc import Iterable, Mapping, Sequence

import xxhash


def rank_shards(partition: int, shards: Iterable[str]) -> list[str]:
    """All shards, the best for this partition first."""
    return sorted(
        shards, key=lambda shard: (-xxhash.xxh3_64_intdigest(f"{partition}/{shard}".encode()), shard)
    )


def place_partitions(partition_count: int, shards: Sequence[str]) -> Mapping[int, tuple[str, ...]]:
    """For each partition all shards in the order in which to try them: its leader, then the others by rank.

    No shard leads more than ceil(partition_count / len(shards)).
    """
    most = -(-partition_count // len(shards)) if shards else 0
    led = dict.fromkeys(shards, 0)
    placed = {}
    for partition in range(partition_count):
        ranked = rank_shards(partition, shards)
        leader = next((shard for shard in ranked if led[shard] < most), None)
        if leader is not None:
            led[leader] += 1
            ranked.remove(leader)
            ranked.insert(0, leader)
        placed[partition] = tuple(ranked)
    return placed
