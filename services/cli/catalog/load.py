"""`tally catalog load`: resources of a file of JSON lines, in batches on one stream."""

import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from services.cli.terminal.calling import call
from services.cli.terminal.failure import USAGE, Failure
from services.cli.terminal.output import open_console
from tally.catalog.v1 import resource_pb2
from tally.client import Client

_BATCH = 200
_BATCH_BYTES = 4 * 1024 * 1024
_PROGRESS = 10_000


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    put: resource_pb2.ResourcePut


@dataclass(slots=True)
class _Loaded:
    """The results of the lines so far."""

    stored: int = 0
    changed: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    change: int = 0


def load(address: str, file: str, rejects: Path | None) -> None:
    """Store the resources of a file, and print what became of them. Raises Failure."""
    rejects = rejects or Path("stdin.rejected" if file == "-" else f"{file}.rejected")
    console = open_console(stderr=True)
    loaded = _Loaded()

    async def run(client: Client) -> None:
        with ExitStack() as stack:
            lines = _read(sys.stdin if file == "-" else stack.enter_context(_open(file)), loaded)
            told = 0
            for batch in _batches(lines):
                await _put(client, batch, loaded)
                if loaded.stored - told >= _PROGRESS:
                    told = loaded.stored
                    console.print(f"{loaded.stored:,} stored")

    call(address, run)
    what = f"{loaded.stored:,} resources, of which {loaded.changed:,} were new or differed"
    print(f"{what}; the last change is {loaded.change}")  # noqa: T201 - the answer of the command
    if loaded.rejected:
        rejects.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in loaded.rejected))
        raise Failure(f"{len(loaded.rejected):,} lines were refused: {rejects} has them with the reasons")


async def _put(client: Client, batch: Sequence[_Line], loaded: _Loaded) -> None:
    """Store a batch; what is refused is taken out, and the rest is sent again."""
    remaining = list(batch)
    while remaining:
        answer = await _send(client, remaining)
        if not answer.problems:
            loaded.stored += len(remaining)
            loaded.changed += answer.changed
            loaded.change = max(loaded.change, answer.change)
            return
        bad = {problem.index for problem in answer.problems if problem.index >= 0}
        if not bad and len(remaining) > 1:  # one of them is wrong, and it is not known which
            half = len(remaining) // 2
            await _put(client, remaining[:half], loaded)
            await _put(client, remaining[half:], loaded)
            return
        for index in sorted(bad or {0}):
            reasons = [
                f"{problem.field}: {problem.description}"
                for problem in answer.problems
                if problem.index in (index, -1)
            ]
            loaded.rejected.append(_rejected(remaining[index].number, remaining[index].text, reasons))
        remaining = [line for index, line in enumerate(remaining) if index not in (bad or {0})]


async def _send(client: Client, lines: Sequence[_Line]) -> resource_pb2.PutResourcesResponse:
    async def one() -> AsyncIterator[Sequence[resource_pb2.ResourcePut]]:
        yield [line.put for line in lines]

    async with aclosing(client.catalog.put_batches(one())) as answers:
        return await anext(answers)


def _batches(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    batch: list[_Line] = []
    ids: set[str] = set()
    size = 0
    for line in lines:
        resource = line.put.resource
        if batch and (len(batch) == _BATCH or size + len(line.text) > _BATCH_BYTES or resource.id in ids):
            yield batch
            batch, ids, size = [], set(), 0
        batch.append(line)
        ids.add(resource.id)
        size += len(line.text)
    if batch:
        yield batch


def _read(file: TextIO, loaded: _Loaded) -> Iterator[_Line]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text, object_pairs_hook=_object)
            details = fields["details"]
            resource = resource_pb2.Resource(
                id=fields["id"],
                details=json.dumps(details, ensure_ascii=False, separators=(",", ":")).encode(),
                external_id=fields.get("external_id", ""),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"is not a line as `load --help` describes it: {error!r}"
            loaded.rejected.append(_rejected(number, text, [reason]))
            continue
        yield _Line(number, text, resource_pb2.ResourcePut(resource=resource))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is in one object twice")
    return found


def _rejected(number: int, text: str, reasons: Sequence[str]) -> dict[str, Any]:
    return {"line": number, "reasons": list(reasons), "text": text.rstrip("\n")}


def _open(file: str) -> TextIO:
    try:
        return Path(file).open(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", USAGE) from error
