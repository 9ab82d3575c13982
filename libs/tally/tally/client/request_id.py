"""The request ids of one client, each made once and used for all retries."""

import os
import time
from collections.abc import Callable

from tally.contract.request_id import RANDOM_BYTES, request_id_of


def make_request_id(now_ms: int, random: bytes) -> str:
    """The text form of an id of that time, milliseconds since 1970-01-01 UTC, and the low 74 bits of 10 bytes."""
    return str(request_id_of(now_ms, int.from_bytes(random, "big")))


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
