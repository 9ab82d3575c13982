"""A channel that is opened anew when its certificates change: gRPC's own cannot take new ones (grpc/grpc#41779)."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc

from libs.rpc.security.watched import Watched

_LEAVE_SECONDS = 60.0

Open = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


class RenewingChannel(grpc.aio.Channel):
    """Calls go by the newest channel; those under way on an older one have a minute to end."""

    def __init__(self, credentials: Watched[grpc.ChannelCredentials], open_with: Open) -> None:
        self._watched = credentials
        self._open_with = open_with
        self._credentials = credentials.current
        self._channel = open_with(self._credentials)
        self._leaving: dict[grpc.aio.Channel, asyncio.Task[None]] = {}

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel by which a new call goes."""
        credentials = self._watched.current
        if credentials is not self._credentials:
            old, self._channel = self._channel, self._open_with(credentials)
            self._credentials = credentials
            leaving = asyncio.get_running_loop().create_task(old.close(_LEAVE_SECONDS))
            self._leaving[old] = leaving
            leaving.add_done_callback(lambda _: self._leaving.pop(old, None))
        return self._channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        leaving = dict(self._leaving)
        for each in leaving.values():
            each.cancel()
        await asyncio.gather(*leaving.values(), return_exceptions=True)
        await asyncio.gather(*(channel.close(grace) for channel in (self._channel, *leaving)))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Calls(self, "stream_stream", args, kwargs)


class _Calls:
    """A method as a stub keeps it, of whichever channel is the newest."""

    def __init__(self, owner: RenewingChannel, kind: str, args: Any, kwargs: Any) -> None:
        self._owner = owner
        self._kind = kind
        self._args = args
        self._kwargs = kwargs
        self._channel: grpc.aio.Channel | None = None
        self._calls: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        channel = self._owner.current
        if channel is not self._channel:
            self._calls = getattr(channel, self._kind)(*self._args, **self._kwargs)
            self._channel = channel
        return self._calls(*args, **kwargs)
