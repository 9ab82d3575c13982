"""A pass of counts on its way to a peer: read at full speed, then sent as fast as the peer takes it.

So neither the snapshot, which keeps the server from removing old rows, nor its connection waits for a peer. What does
not fit in memory is in a file without a name, which the system removes whatever becomes of this process.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

from tally.contract.errors import Unavailable
from tally.replication.v1 import peers_pb2 as pb

_MEMORY_BYTES = 1024 * 1024
_LENGTH_BYTES = 4


class PassFile:
    """Batches, in the order in which they were put."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: for the file; None: where the system has its temporary files."""
        self._folder = folder
        where = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=where)  # noqa: SIM115 - see __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    async def put(self, batch: pb.StateBatch) -> None:
        """One more. Raises Unavailable when there is no room."""
        packed = batch.SerializeToString()
        try:
            await asyncio.to_thread(self._file.write, len(packed).to_bytes(_LENGTH_BYTES) + packed)
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise Unavailable(
                f"a pass of counts cannot be written to {where}: {error}. Make room there; it is repeated by itself"
            ) from error

    async def batches(self) -> AsyncGenerator[pb.StateBatch]:
        """All of them."""
        await asyncio.to_thread(self._file.seek, 0)
        while length := await asyncio.to_thread(self._file.read, _LENGTH_BYTES):
            packed = await asyncio.to_thread(self._file.read, int.from_bytes(length))
            yield pb.StateBatch.FromString(packed)
