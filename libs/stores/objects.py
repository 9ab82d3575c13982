"""The object store: immutable objects by name, in a folder or at a cloud (`file://`, `s3://`, `gs://`, `az://`).

An object is written once under a name that is made from its content, and never overwritten. So a repeated write is
harmless, and a reader of an object gets all of it or an error.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from tally.contract.errors import NotReady, Unavailable


class Missing(Unavailable):
    """There is no object of this name in the store that is set."""


class Objects:
    """An object store. Every method raises Unavailable when the store is unreachable or refuses."""

    def __init__(self, url: str) -> None:
        """`url`: the store, with a prefix. Raises NotReady when it cannot be one."""
        self.url = url
        self._synced: set[Path] = set()
        """folders whose names are on the disk"""
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._store: ObjectStore = from_url(url)
        except (BaseError, OSError, ValueError) as error:
            raise NotReady(
                f"TALLY_OBJECTS_URL {url!r} is no object store: {_first_line(error)}. Set it to file:///folder, "
                "s3://bucket/prefix, gs://… or az://…"
            ) from error

    async def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, durably. One of this name that is there already is left: it has the same content."""
        with _reaching(self.url):
            with suppress(AlreadyExistsError):
                await obstore.put_async(self._store, name, data, mode="create")
            if self._folder is not None:
                await asyncio.to_thread(self._sync, self._folder, name)

    async def get(self, name: str) -> bytes:
        """The content of an object. Raises Missing."""
        with _reaching(self.url):
            try:
                found = await obstore.get_async(self._store, name)
                return bytes(await found.bytes_async())
            except FileNotFoundError as error:
                raise Missing(
                    f"{self.url} has no object {name}: set TALLY_OBJECTS_URL to the store that all services share"
                ) from error

    async def get_range(self, name: str, start: int, length: int) -> bytes:
        """A part of an object. Raises Missing."""
        with _reaching(self.url):
            try:
                return bytes(await obstore.get_range_async(self._store, name, start=start, length=length))
            except FileNotFoundError as error:
                raise Missing(
                    f"{self.url} has no object {name}: set TALLY_OBJECTS_URL to the store that all services share"
                ) from error

    async def fetch(self, name: str, folder: Path) -> Path:
        """An object as a file to be read: in the store itself, if that is a folder, or a copy in `folder`.

        Raises Missing.
        """
        if self._folder is not None:
            path = self._folder / name
            if not path.exists():
                raise Missing(
                    f"{self.url} has no object {name}: set TALLY_OBJECTS_URL to the store that all services share"
                )
            return path
        path = folder / name.replace("/", "_")
        if not path.exists():
            data = await self.get(name)
            partial = path.with_suffix(".partial")
            await asyncio.to_thread(partial.write_bytes, data)
            partial.rename(path)
        return path

    def _sync(self, folder: Path, name: str) -> None:
        """Have the file, and its name in each folder above it, on the disk."""
        path = folder / name
        _fsync(path)
        _fsync(path.parent)
        while path.parent != folder and path.parent not in self._synced:
            path = path.parent
            _fsync(path.parent)
            self._synced.add(path)


def folder_url(folder: Path) -> str:
    """The URL of a folder as a store."""
    return folder.resolve().as_uri()


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise Unavailable(f"the object store {url} did not do it: {_first_line(error)}; try again") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or repr(error)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
