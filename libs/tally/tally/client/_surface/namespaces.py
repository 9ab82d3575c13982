"""The namespaces of the client, made by `make docs` from the table of services."""

from tally.client._calls.namespace import Attached
from tally.client.backfill import Backfill
from tally.client.catalog import Catalog
from tally.client.counting import Counting
from tally.client.query import Query
from tally.client.replication import Replication
from tally.client.scheduler import Scheduler


class Namespaces:
    """A part of the client for each service that users call."""

    backfill = Attached(Backfill)
    """has Bluesky repositories fetched, and counts them"""
    catalog = Attached(Catalog)
    """finds resources by who may see them"""
    counting = Attached(Counting)
    """makes events durable and counts them"""
    query = Attached(Query)
    """answers counts and statistics"""
    replication = Attached(Replication)
    """carries rows to other regions, and takes in theirs"""
    scheduler = Attached(Scheduler)
    """plans background work and leases it to workers"""
