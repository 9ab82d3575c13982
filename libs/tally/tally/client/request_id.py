"""Request ids: UUIDs of version 7 (RFC 9562, section 5.7), made once for each request.

The service refuses an id whose time is far from its own, so the time inside is a part of the contract.
"""

import os
import time
from collections.abc import Callable
from uuid import UUID

RANDOM_BYTES = 10


def make_request_id(now_ms: int, random: bytes) -> str:
    """Lay out one id and return its text form.

    `now_ms`: milliseconds since 1970-01-01 UTC, 48 bits. `random`: 10 bytes, of which the id takes the
    low 74 bits: 12 beside the version, 62 beside the variant.
    """
    bits = int.from_bytes(random, "big")
    rand_a, rand_b = bits >> 62 & 0xFFF, bits & 0x3FFF_FFFF_FFFF_FFFF
    return str(UUID(int=now_ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b))


class RequestIds:
    """Makes the ids of one client, from the time and the randomness that it is given.

    A clock that is wrong is put right by what the service says of its own: see `learn`.
    """

    def __init__(
        self,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now_us = now_us
        self._random = random
        self.offset_us = 0
        """the service's time less that of this machine, as far as it is known"""

    def learn(self, server_time_us: int) -> None:
        """Take the service's time, in microseconds since 1970-01-01 UTC, for that of now."""
        self.offset_us = server_time_us - self._now_us()

    def make(self) -> str:
        """A new id, different from every other, by the service's time."""
        return make_request_id((self._now_us() + self.offset_us) // 1_000, self._random(RANDOM_BYTES))
