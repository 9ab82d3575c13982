"""`make bench`: Tally beside what a good engineer would put together in a day, in one run, on one machine.

events  →  rounds (closed loop, open loop)  →  figures  →  report, plot
   └────→  oracle  ─────┴→ a contender whose counts are not exact has no figure

A contender is a module: tally, valkey_lua, valkey_hincrby, postgres_batch, postgres_single, door, echo. Each opens
servers of its own, sends requests that are durable when `send` returns, and tells its counts. The client is this
process; every server is a child, and ends with it. The catalogue says who runs beside whom.
"""
