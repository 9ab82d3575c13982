"""gRPC's types, as far as servicers name them."""

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    ServicerContext = grpc.aio.ServicerContext[Any, Any]
else:  # generic for the type checker alone
    ServicerContext = grpc.aio.ServicerContext
