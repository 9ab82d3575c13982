"""The frame of a small gRPC server in a process of its own: it prints its address and runs until SIGTERM."""

import asyncio
import signal

import grpc

_GRACE_SECONDS = 1.0


async def serve(handler: grpc.GenericRpcHandler) -> None:
    """Listen on a free port of 127.0.0.1; the options are gRPC's own but for the shared port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(_GRACE_SECONDS)
