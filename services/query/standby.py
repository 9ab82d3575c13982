"""How far a hot standby is behind its primary, and which connections lead to one."""

from typing import Any

# The timestamp of the last commit that was replayed, by the primary's clock: whatever was acknowledged before it was
# taken is earlier in the write-ahead log, and so replayed too. (A live cluster commits heartbeats each second, so an
# idle standby is not far behind.) A standby that has replayed no commit since its start has none; then the opening of
# the youngest log is used, by the same argument.
_REPLAYED = """
select pg_is_in_recovery() as is_standby,
    (extract(epoch from coalesce(
        pg_last_xact_replay_timestamp(), (select max(opened_at) from counting.log),
        (select created_at from public.cluster)
    )) * 1000000)::bigint as replayed_us"""


async def replayed_until_us(connection: Any) -> int | None:
    """Until when the next snapshot of this connection holds everything, or None on a primary, where it always does.

    Ask before the snapshot is taken: a standby that is promoted meanwhile is still answered for as a standby.
    """
    # The server reports it when we connect and whenever it changes, so on a primary it costs nothing.
    if getattr(connection.get_settings(), "in_hot_standby", None) == "off":
        return None
    row = await connection.fetchrow(_REPLAYED)
    replayed_us: int = row["replayed_us"]
    return replayed_us if row["is_standby"] else None
