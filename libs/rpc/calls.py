"""Calls to other services: a deadline, a span, and Tally's errors.

gRPC's interceptors for asyncio clients cost a task for each call, so this is a plain callable instead.
"""

import asyncio
import time
from typing import Generic, TypeVar

import grpc
from opentelemetry.trace import SpanKind

from libs.rpc.tracing import CLIENT_FAULTS, inject_context, method_attributes, outcome_attributes, set_outcome
from libs.telemetry import catalogue
from libs.telemetry.setup import OFF, Telemetry
from tally.contract.errors import ServerFault
from tally.contract.status import error_from_rpc

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryCall(Generic[Request, Response]):
    """One unary method of another service.

    `method` is a stub's, of an asyncio channel; `name` is its path, `/service/method`.
    """

    def __init__(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        name: str,
        *,
        telemetry: Telemetry = OFF,
    ) -> None:
        self._method = method
        self._name = name.removeprefix("/")
        self._attributes = method_attributes(name)
        self._telemetry = telemetry
        self._duration = catalogue.histogram(telemetry.meter, catalogue.RPC_CLIENT_DURATION)

    async def __call__(self, request: Request, *, timeout_s: float) -> Response:
        """The response, within `timeout_s` seconds (see `libs.rpc.deadline.call_timeout`).

        Raises the TallyError that the other side raised, or Unavailable or DeadlineExceeded without its help, and
        TallyError for a response that does not parse.
        """
        try:
            if not self._telemetry.enabled:
                response = await self._method(request, timeout=timeout_s)
            else:
                response = await self._call_traced(request, timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        if response is None:  # this is how grpc.aio reports it
            raise ServerFault(f"the response of {self._name} does not parse")
        return response

    async def _call_traced(self, request: Request, timeout_s: float) -> Response:
        code = grpc.StatusCode.OK
        started = time.perf_counter()
        with self._telemetry.tracer.start_as_current_span(
            self._name,
            kind=SpanKind.CLIENT,
            attributes=self._attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await self._method(request, timeout=timeout_s, metadata=inject_context())
            except grpc.aio.AioRpcError as error:
                code = error.code()
                raise
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            finally:
                outcome = outcome_attributes(code, CLIENT_FAULTS)
                set_outcome(span, outcome)
                self._duration.record(time.perf_counter() - started, {**self._attributes, **outcome})
