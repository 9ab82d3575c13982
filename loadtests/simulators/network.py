"""The servers: one host and the directory, on ports of 127.0.0.1."""

import asyncio
import base64
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

from libs.atproto.syntax import make_tid
from loadtests.simulators.limits import Window
from loadtests.simulators.records import BEGIN, World, make_world
from loadtests.simulators.repos import Signer, make_car

_REV_US = int((BEGIN.timestamp() + 301 * 86_400) * 1_000_000)
_MOST_REPOS = 1_000


class Fate(StrEnum):
    """What a call for an account's repository meets."""

    SERVED = "served"
    TAKEN_DOWN = "RepoTakendown"
    DEACTIVATED = "RepoDeactivated"
    CHANGED = "changed"
    """a block has other bytes than its CID says"""
    WRONG_KEY = "wrong key"
    """the directory has another key than the one that signs"""
    ABSENT = "absent"
    """the directory does not know the account"""
    CUT_ONCE = "cut once"
    """the first answer ends between two blocks"""
    BUSY_ONCE = "busy once"
    """the first answer is 503"""


FETCHED = frozenset({Fate.SERVED, Fate.CUT_ONCE, Fate.BUSY_ONCE})


def did_of(number: int, seed: int = 0) -> str:
    """A made did:plc."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return "did:plc:" + base64.b32encode(digest).decode().lower()[:24]


@dataclass(slots=True, eq=False)
class Network:
    """Accounts of one host, their truth, and a record of the calls."""

    dids: Sequence[str]
    world: World
    fates: dict[str, Fate] = field(default_factory=dict)
    """of the accounts that are not simply served"""
    window: Window = field(default_factory=lambda: Window(clock=time.time))
    delay_seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    """for each account's repository"""
    asked: Counter[str] = field(default_factory=Counter)
    """of the directory, for each account"""
    host_url: str = ""
    directory_url: str = ""
    _cars: dict[str, bytes] = field(default_factory=dict)

    @property
    def fetched(self) -> list[str]:
        """The accounts that a backfill must get."""
        return [did for did in self.dids if self.fates.get(did, Fate.SERVED) in FETCHED]

    @property
    def truth(self) -> Counter[tuple[str, str]]:
        """How often each (video, event type) counts."""
        return self.world.truth(self.fetched)

    def car_of(self, did: str) -> bytes:
        """The repository of an account, made when it is first asked for."""
        if did not in self._cars:
            rev = make_tid(_REV_US)
            self._cars[did] = make_car(self.world.records[did], self._signer_of(did), did, rev)
        return self._cars[did]

    def document_of(self, did: str) -> dict[str, Any]:
        """The DID document. Another service comes first (T002-27)."""
        signer = Signer(1) if self.fates.get(did) is Fate.WRONG_KEY else self._signer_of(did)
        return {
            "id": did,
            "verificationMethod": [
                {
                    "id": f"{did}#atproto",
                    "type": "Multikey",
                    "controller": did,
                    "publicKeyMultibase": signer.multikey,
                }
            ],
            "service": [
                {"id": "#labeler", "type": "AtprotoLabeler", "serviceEndpoint": "https://10.0.0.1"},
                {
                    "id": "#atproto_pds",
                    "type": "AtprotoPersonalDataServer",
                    "serviceEndpoint": self.host_url,
                },
            ],
        }

    async def get_document(self, request: web.Request) -> web.StreamResponse:
        """GET /{did} of the directory."""
        did = request.match_info["did"]
        self.asked[did] += 1
        if did not in self.world.records or self.fates.get(did) is Fate.ABSENT:
            return web.json_response({"message": f"DID not registered: {did}"}, status=404)
        return web.json_response(self.document_of(did))

    async def get_repo(self, request: web.Request) -> web.StreamResponse:
        """GET com.atproto.sync.getRepo."""
        did = request.query.get("did", "")
        is_allowed, headers = self.window.take()
        if not is_allowed:
            return web.json_response({"error": "RateLimitExceeded"}, status=429, headers=headers)
        self.calls[did] += 1
        await asyncio.sleep(self.delay_seconds)
        if did not in self.world.records:
            return web.json_response({"error": "RepoNotFound"}, status=400, headers=headers)
        is_first = self.calls[did] == 1
        car = self.car_of(did)
        match self.fates.get(did, Fate.SERVED):
            case (Fate.TAKEN_DOWN | Fate.DEACTIVATED) as fate:
                return web.json_response({"error": fate.value}, status=400, headers=headers)
            case Fate.CHANGED:
                car = car[:-1] + bytes([car[-1] ^ 1])
            case Fate.CUT_ONCE if is_first:
                car = _without_last_block(car)
            case Fate.BUSY_ONCE if is_first:
                return web.json_response({"error": "Busy"}, status=503, headers=headers)
        return web.Response(body=car, content_type="application/vnd.ipld.car", headers=headers)

    async def list_repos(self, request: web.Request) -> web.StreamResponse:
        """GET com.atproto.sync.listRepos."""
        is_allowed, headers = self.window.take()
        if not is_allowed:
            return web.json_response({"error": "RateLimitExceeded"}, status=429, headers=headers)
        start = int(request.query.get("cursor", "0"))
        end = start + min(int(request.query.get("limit", "500")), _MOST_REPOS)
        rev = make_tid(_REV_US)
        repos = [{"did": did, "head": "bafyrei", "rev": rev, "active": True} for did in self.dids[start:end]]
        cursor = {"cursor": str(end)} if end < len(self.dids) else {}
        return web.json_response({"repos": repos, **cursor}, headers=headers)

    def _signer_of(self, did: str) -> Signer:
        secret = int.from_bytes(hashlib.sha256(did.encode()).digest()[:16]) + 2
        return Signer(secret, "p256" if secret % 4 == 0 else "k256")


def make_network(count: int, seed: int = 0, **options: Any) -> Network:
    """A network of so many accounts; `options` are fields of Network."""
    dids = [did_of(number, seed) for number in range(count)]
    return Network(dids, make_world(dids, seed), **options)


@asynccontextmanager
async def open_network(network: Network) -> AsyncIterator[Network]:
    """Serve until the context ends; `host_url` and `directory_url` then say where."""
    host, directory = web.Application(), web.Application()
    host.router.add_get("/xrpc/com.atproto.sync.getRepo", network.get_repo)
    host.router.add_get("/xrpc/com.atproto.sync.listRepos", network.list_repos)
    directory.router.add_get("/{did}", network.get_document)
    async with _serving(host) as network.host_url, _serving(directory) as network.directory_url:
        yield network


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def _without_last_block(car: bytes) -> bytes:
    """The file up to where its last frame begins (T002-30)."""
    position = last = 0
    while position < len(car):
        last = position
        length = shift = 0
        while True:
            byte = car[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += length
    return car[:last]
