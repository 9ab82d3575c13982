"""The scheduler: keeps the members of populations in sync with other companies' apis, within their limits.

It plans runs of jobs, leases their slots to workers, pays each batch from the job's quotas when it may be sent, and
records the outcome of each item. Any number of instances run at the same time, all equal; whatever they must agree on
is a row that a transaction locks. Always true:

- A run is unique by (job, logical time, repeat), and keeps the definition that it was planned with.
- A report counts only under the token of the slot's latest lease, and only for the batch at the slot's next key.
- An outcome is recorded once per run, item and try.
- What a quota's day has paid for is never more than its limit; every call was paid before it could be sent.
- A request that is repeated after a lost answer is answered as before. Nothing is paid or recorded twice.
- Time is read from one clock, Postgres's, and handed to SQL as a parameter.

Locks are taken in one order: job, run, slot, quotas by name and day, members by id.
"""
