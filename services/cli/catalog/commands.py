"""`tally catalog`: what its commands take, and what they say of themselves."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal.options import DEFAULT_ADDRESS, Address, AsJson

Id = Annotated[
    str, typer.Argument(metavar="ID", help="A number and the suffix of its type.", show_default=False)
]
Viewer = Annotated[
    str | None,
    typer.Option(metavar="COUNTRY/APPLICATION/PLATFORM", help="Who looks: us/48/mobile.", show_default=False),
]


def add_commands(app: typer.Typer) -> None:
    """`tally catalog`."""
    app.add_typer(make_catalog(), name="catalog")


def make_catalog() -> typer.Typer:
    """The commands under `tally catalog`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(catalog)
    for command in (load, find, get, put, delete, keys, status, explain, rebuild, verify):
        app.command()(command)
    app.add_typer(_group(types, put=types_put, list=types_list), name="types")
    app.add_typer(
        _group(lists, add=lists_add, remove=lists_remove, replace=lists_replace, of=lists_of), name="lists"
    )
    app.add_typer(_group(rules, put=rules_put, list=rules_list, **{"try": rules_try}), name="rules")
    return app


def _group(callback: Callable[..., None], **commands: Callable[..., None]) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(callback)
    for name, command in commands.items():
        app.command(name)(command)
    return app


def catalog() -> None:
    """Store resources, say who may see them, and find them.

    In a cluster the front proxy answers `find` alone: name a process of the catalog with --address for the rest.

    \b
    Example:
      tally catalog types put types.toml
      tally catalog load videos.jsonl
      tally catalog find t:clips --sort views --viewer us/48/mobile --total
    """


def types() -> None:
    """Say what there is to store: types of resources, and the codes of viewers."""


def types_put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML.", show_default=False)],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Store the types of a TOML file, and the applications and platforms that it lists. Harmless to repeat.

    The resources of a type that has changed are indexed anew: `status` shows how far that is.

    \b
    Example of a file:
      applications = ["48", "web"]
      platforms = ["mobile", "tv"]

      [[type]]
      suffix = "v"
      name = "video"
      required = ["/title"]
      parent = "/container"
      children = "videos"
      indexes = { t = "/type", genre = "/genres/*" }
      sorts = ["/views"]

      [[type]]
      suffix = "u"
      name = "user"
      lists = [{ name = "subscriptions", add_again = "move", limit = 1000, drop_oldest = true }]
    """
    from services.cli.catalog.types import put_types

    for line in put_types(address, file):
        typer.echo(line)


def types_list(address: Address = DEFAULT_ADDRESS) -> None:
    """List the types, as JSON lines."""
    from services.cli.catalog.types import list_types

    for line in list_types(address):
        typer.echo(line)


def load(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where refused lines go, with reasons.", show_default="FILE.rejected"
        ),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Store the resources of a file. Harmless to repeat: what is stored already changes nothing.

    A line is {"id": "38v", "details": {...}, "external_id": "MBdVXkSdhwU"}; the external id may be left out. Parents
    come before their children. Exits with 1 when a line was refused.

    \b
    Example:
      tally catalog load videos.jsonl
    """
    from services.cli.catalog.load import load as run

    run(address, file, rejects)


def find(
    sets: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET", help="Resources in all of these sets.", show_default="all"),
    ] = None,
    viewer: Viewer = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="SET", help="Without those in this set.")
    ] = None,
    in_list: Annotated[
        str, typer.Option("--list", metavar="LIST", help="Resources in this list.", show_default="all")
    ] = "",
    sort: Annotated[
        str,
        typer.Option(metavar="NAME", help="A sort of a type, or id.", show_default="id, or that of the list"),
    ] = "",
    ascending: Annotated[bool, typer.Option("--ascending", help="The lowest first.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="So many on a page.")] = 20,
    page: Annotated[
        str, typer.Option(metavar="TOKEN", help="The next page, as the page before prints it.")
    ] = "",
    total: Annotated[bool, typer.Option("--total", help="Count all that match.")] = False,
    facets: Annotated[
        list[str] | None, typer.Option(metavar="INDEX", help="Count the values of an index.")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Find what a viewer may see. Alternatives within a filter are separated by commas.

    \b
    Examples:
      tally catalog find t:clips 1000c:videos --sort views --viewer us/48/mobile --total --facets genre
      tally catalog find genre:1,genre:2 --exclude t:trailers --viewer us/48/mobile
      tally catalog find --list 9002u:subscriptions --viewer us/48/mobile
    """
    from services.cli.catalog.find import Wanted
    from services.cli.catalog.find import find as run

    wanted = Wanted(
        sets or [], exclude or [], viewer or "", in_list, sort, ascending, limit, page, total, facets or []
    )
    run(address, wanted, as_json=as_json)


def get(resource: Id, viewer: Viewer = None, address: Address = DEFAULT_ADDRESS) -> None:
    """Print a resource as JSON: details, sets, version. With a viewer only if the viewer may see it.

    \b
    Example:
      tally catalog get 38v
    """
    from services.cli.catalog.resources import get as run

    typer.echo(run(address, resource, viewer))


def put(
    resource: Id,
    details: Annotated[str, typer.Argument(metavar="JSON", help="The details; - reads standard input.")],
    external_id: Annotated[str, typer.Option(metavar="NAME", help="Its name elsewhere.")] = "",
    version: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Only if this version is stored; 0: none.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Store a resource, or replace it.

    \b
    Example:
      tally catalog put 38v '{"title": "Astro Boy", "type": "clips"}'
    """
    from services.cli.catalog.resources import put as run

    typer.echo(run(address, resource, details, external_id, version))


class Children(StrEnum):
    """What becomes of the children of a resource that is deleted."""

    REFUSE = "refuse"
    DETACH = "detach"
    DELETE = "delete"


def delete(
    resource: Id,
    children: Annotated[
        Children, typer.Option(help="What becomes of its children; they go in pieces.")
    ] = Children.REFUSE,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Remove a resource from every set; returns when no process can show it any more. Its rules stay.

    Children that are detached keep no rules of this resource. A delete that was cut off goes on when it is run again.

    \b
    Examples:
      tally catalog delete 38v
      tally catalog delete 1000c --children delete
    """
    from services.cli.catalog.resources import delete as run

    typer.echo(run(address, resource, children.value))


Key = Annotated[
    str, typer.Argument(metavar="LIST", help="9002u:subscriptions, or list:featured.", show_default=False)
]
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Resources.", show_default=False)]


def lists() -> None:
    """Say what is in which list. `find --list` shows one in its order."""


def lists_add(key: Key, ids: Ids, address: Address = DEFAULT_ADDRESS) -> None:
    """Add resources to a list, the last one newest.

    \b
    Example:
      tally catalog lists add 9002u:subscriptions 1000v 384v 50c
    """
    from services.cli.catalog.lists import add

    for line in add(address, key, ids):
        typer.echo(line)


def lists_remove(key: Key, ids: Ids, address: Address = DEFAULT_ADDRESS) -> None:
    """Remove resources from a list."""
    from services.cli.catalog.lists import remove

    for line in remove(address, key, ids):
        typer.echo(line)


def lists_replace(key: Key, ids: Ids, address: Address = DEFAULT_ADDRESS) -> None:
    """Let a list have these resources and no others, the first one first."""
    from services.cli.catalog.lists import replace

    for line in replace(address, key, ids):
        typer.echo(line)


def lists_of(resource: Id, address: Address = DEFAULT_ADDRESS) -> None:
    """Print the lists that a resource is in, each with the time of adding."""
    from services.cli.catalog.lists import read_memberships

    for line in read_memberships(address, resource):
        typer.echo(line)


def rules() -> None:
    """Say who may see what."""


def rules_put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV.", show_default=False)],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Replace the rules of each subject in a CSV file; returns when they are in force everywhere.

    The columns are subject, priority, allow, countries, applications, platforms, from, to, reason. A subject is an id
    or a set. `allow` is yes or no. Codes are separated by spaces; none stands for all. A time is ISO 8601 with its
    zone; the rule holds from `from` up to `to`, without it. A line with nothing but a subject removes its rules.

    \b
    Example of a file:
      subject,priority,allow,countries,applications,platforms,from,to,reason
      38v,1,no,US CA,,,2026-01-01T00:00:00Z,,not licensed
    """
    from services.cli.catalog.rules import put_rules

    for line in put_rules(address, file):
        typer.echo(line)


def rules_try(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, as `put` takes it.", show_default=False)],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Tell what would appear and disappear, for whom and when, and which rules never decide. Nothing is stored.

    `*` stands for every code that no rule names.
    """
    from services.cli.catalog.rules import try_rules

    for line in try_rules(address, file):
        typer.echo(line)


def rules_list(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="An id or a set.", show_default="all")
    ] = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Print rules as the CSV that `put` takes."""
    from services.cli.catalog.rules import list_rules

    typer.echo(list_rules(address, subject), nl=False)


def keys(resource: Id, address: Address = DEFAULT_ADDRESS) -> None:
    """Print what Valkey holds of a resource, key by key.

    \b
    Example:
      tally catalog keys 38v
    """
    from services.cli.catalog.resources import read_keys

    for line in read_keys(address, resource):
        typer.echo(line)


def status(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show how far the record, the processes of the catalog and the projection are.

    Exits with 1 when the process that answers is stale.
    """
    from services.cli.catalog.status import show

    show(address, as_json=as_json)


def explain(
    resource: Id,
    viewer: Annotated[
        str,
        typer.Option(
            metavar="COUNTRY/APPLICATION/PLATFORM", help="Who looks: us/48/mobile.", show_default=False
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET", help="The sets of a find that lacks it.", show_default=False),
    ] = None,
    sort: Annotated[str, typer.Option(metavar="NAME", help="The sort of that find.")] = "id",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Tell why a viewer may or may not see a resource: each rule in order, what comes later, which sets lack it.

    \b
    Example:
      tally catalog explain 38v t:clips --viewer us/48/mobile --sort views
    """
    from services.cli.catalog.explain import explain as run

    run(address, resource, viewer, sets or [], sort)


def rebuild(address: Address = DEFAULT_ADDRESS) -> None:
    """Have the projection in Valkey built anew, and wait until it is complete. Finds go on meanwhile."""
    from services.cli.catalog.projection import rebuild as run

    typer.echo(run(address))


def verify(address: Address = DEFAULT_ADDRESS) -> None:
    """Compare the projection in Valkey with the record, key by key. Exits with 1 when something is wrong.

    `rebuild` mends it.
    """
    from services.cli.catalog.projection import verify as run

    for line in run(address):
        typer.echo(line)
