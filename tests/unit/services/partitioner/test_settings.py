"""What follows from the settings that ship."""

from services.partitioner.settings import ProbeSettings

_PROMISED_S = 2.0
_TO_SEND_AGAIN_S = 0.3


def test_a_frozen_shard_is_given_up_long_enough_before_its_partitions_must_be_served_again() -> None:
    assert ProbeSettings().longest_silence_seconds <= _PROMISED_S - _TO_SEND_AGAIN_S
