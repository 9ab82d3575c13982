"""Whether the shard at an address belongs to this cluster: checked each time that the shard comes back."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from libs.rpc.cluster_identity import describe
from libs.rpc.probe import NoAnswer
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.errors import DeadlineExceeded, TallyError, Unavailable

_LOGGER = structlog.get_logger(__name__)

AskIdentity = Callable[[float], Awaitable[ClusterIdentity]]
"""Asks the shard for its cluster, with a timeout in seconds. Raises TallyError."""


class Membership:
    """A probe of one shard that answers "not serving" while the shard belongs to another cluster.

    This keeps entries away from such a shard; that none of them is counted there, the shard itself ensures: it compares
    the identity in each call. So the answer holds until a probe fails, or the shard refuses a call (`doubt`).
    """

    def __init__(
        self,
        address: str,
        own: ClusterIdentity,
        serves: Callable[[float], Awaitable[bool]],
        ask_identity: AskIdentity,
    ) -> None:
        self._address = address
        self._own = own
        self._serves = serves
        self._ask_identity = ask_identity
        self._is_confirmed = False
        self._reported = ""

    def doubt(self) -> None:
        """Ask again with the next probe."""
        self._is_confirmed = False

    async def is_serving(self, timeout_s: float) -> bool:
        """Whether the shard serves, and is one of this cluster. Raises NoAnswer."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            serves = await self._serves(timeout_s)
        except NoAnswer:
            self.doubt()
            raise
        if not serves:
            self.doubt()
        elif not self._is_confirmed:
            self._is_confirmed = await self._belongs(deadline - asyncio.get_running_loop().time())
        return self._is_confirmed

    async def _belongs(self, timeout_s: float) -> bool:
        try:
            found = await self._ask_identity(max(timeout_s, 0.001))
        except (Unavailable, DeadlineExceeded) as error:
            raise NoAnswer(error.message) from error
        except TallyError as error:
            self._report(f"it does not tell its cluster: {error.message}")
            return False
        if found != self._own:
            self._report(f"it belongs to {describe(found)}, and this partitioner to {describe(self._own)}")
            return False
        self._reported = ""
        return True

    def _report(self, problem: str) -> None:
        """Log a problem once, until there is another one or none."""
        if problem != self._reported:
            self._reported = problem
            _LOGGER.error(
                "a shard of another cluster is in the list: it gets no entries. Check TALLY_PARTITIONER__SHARDS",
                shard=self._address,
                problem=problem,
            )
