"""What a fault has before it: a deployment under load, and the means to say what it saw."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tally.client import Durability
from tests.fault.table.deployment import Deployment
from tests.fault.table.load import Load
from tests.fault.table.watch import Watch


@dataclass(slots=True)
class Scene:
    """One round of one fault."""

    deployment: Deployment
    load: Load
    watch: Watch
    prefix: str
    """of the ids of the round's videos"""
    chance: random.Random
    is_alone: bool = True
    """whether no other fault is under way"""
    struck_at: float | None = None
    """when the fault began, by the time of the event loop"""
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """what the table says beside the verdict"""

    def strike(self) -> None:
        """To be called when the fault begins: times to recover count from here."""
        if self.struck_at is None:
            self.struck_at = asyncio.get_running_loop().time()

    def expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.wrong.append(otherwise)

    def expect_alone(self, is_so: bool, otherwise: str) -> None:
        """What another fault at the same time may well undo."""
        self.expect(is_so or not self.is_alone, otherwise)

    def expect_spooled(self) -> None:
        """Some receipts must have said SPOOLED. (A shard that another fault has ended starts when Postgres is back.)"""
        spooled = sum(one.durability is Durability.SPOOLED for one in self.load.answered)
        self.note(f"{spooled} receipts SPOOLED")
        self.expect_alone(spooled > 0, "no receipt said SPOOLED")

    def note(self, what: str) -> None:
        self.notes.append(what)

    async def pause(self, least: float, most: float) -> None:
        """Wait for a random moment, in seconds."""
        await asyncio.sleep(self.chance.uniform(least, most))


@dataclass(frozen=True, slots=True)
class Fault:
    """A line of the table. `run` breaks something and mends it; it returns when everything is there again."""

    name: str
    run: Callable[[Scene], Awaitable[Any]]
    breaks: frozenset[str]
    """what it breaks, or needs whole; two faults with something in common are not combined"""
    served_within_seconds: float | None = None
    """how soon every partition must take something that was sent after the fault"""
    recovered_within_seconds: float | None = None
    """how soon no log may wait any more for somebody to bring it to its end"""
    may_fail: bool = True
    """whether calls may fail meanwhile"""
    may_fail_reads: bool = True
    needs_proxy: bool = False
    """whether it looks into the connections of a shard"""
