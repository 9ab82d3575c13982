"""Toys, and how often each was viewed."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from dataclasses import dataclass

from tally.client._calls.methods import Method
from tally.client._calls.namespace import Namespace
from tally.toy.v1 import toy_pb2 as pb

_SERVICE = "/tally.toy.v1.ToyService"
_PUT = Method(f"{_SERVICE}/PutToy", pb.PutToyRequest, pb.PutToyResponse.FromString)
_GET = Method(f"{_SERVICE}/GetToy", pb.GetToyRequest, pb.GetToyResponse.FromString)


@dataclass(frozen=True, slots=True)
class FoundToy:
    """A toy, and the views of its video."""

    colour: str
    view_count: int


class Toy(Namespace):
    """The methods of `client.toy`."""

    async def put(self, name: str, colour: str, *, timeout: float | None = None) -> None:
        """Store a toy. Raises InvalidRequest when there is no such colour."""
        await self._open().call(_PUT, pb.PutToyRequest(name=name, colour=colour), timeout)

    async def get(self, name: str, *, timeout: float | None = None) -> FoundToy:
        """A toy. Raises NotFound."""
        found = await self._open().call(_GET, pb.GetToyRequest(name=name), timeout)
        return FoundToy(found.colour, found.view_count)
