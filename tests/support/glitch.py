"""A Postgres whose clock can be wrong: in one database, for those who connect after `install_glitch`."""

from typing import Any

# With pg_catalog after public, these are found first.
_INSTALL = """
create table if not exists public.glitch (ahead interval not null);
insert into public.glitch select '0' where not exists (select from public.glitch);
create or replace function public.clock_timestamp() returns timestamptz volatile language sql as
    $$ select pg_catalog.clock_timestamp() + ahead from public.glitch $$;
create or replace function public.now() returns timestamptz stable language sql as
    $$ select pg_catalog.now() + ahead from public.glitch $$"""
_NAME = "select current_database()"
_USE = "alter database {name} set search_path = public, pg_catalog"
_SET = "update public.glitch set ahead = make_interval(secs => $1)"
_UNUSE = "alter database {name} reset search_path"


async def install_glitch(connection: Any) -> None:
    """Let the clock of this database be set, for those who connect from now on."""
    await connection.execute(_INSTALL)
    await connection.execute(_USE.format(name=await connection.fetchval(_NAME)))


async def set_clock(connection: Any, ahead_seconds: float) -> None:
    """How far the clock is ahead of the machine's; 0: it is right."""
    await connection.execute(_SET, ahead_seconds)


async def remove_glitch(connection: Any) -> None:
    """The clock is right, for good, for those who connect from now on; for the others it must have been set right."""
    await connection.execute(_UNUSE.format(name=await connection.fetchval(_NAME)))
