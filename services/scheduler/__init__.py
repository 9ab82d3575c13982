"""The scheduler: keeps the members of populations in sync with external apis, within their limits.

It plans runs of jobs, leases their slots to workers, pays each batch from the job's quotas when it may be sent, and
records the outcome of each item. Any number of instances run at the same time, all equal. Their shared
state is in rows that transactions lock. Invariants:

- A run is unique by (job, logical time, repeat), and keeps the definition with which it was planned.
- A report counts only under the token of the slot's latest lease, and only for the batch at the slot's next key.
- An outcome is recorded once per run, item and try.
- The payments of a quota's day never exceed its limit; every call is paid before it may be sent.
- A request that is repeated after a lost answer gets the same answer. Nothing is paid or recorded twice.
- Time is read from one clock, Postgres's, and passed to SQL as a parameter.

Locks are taken in one order: job, run, slot, quotas by name and day, members by id.
"""
