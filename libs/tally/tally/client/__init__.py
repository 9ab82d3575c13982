"""The Python client of Tally: counts video events exactly once, and reads the counts.

`Client` is for asyncio; `tally.client.blocking.Client` does the same for threads and scripts.
"""

from tally.client.answers import (
    Audit,
    Cluster,
    Count,
    Durability,
    Log,
    PartitionMap,
    Receipt,
    Refusal,
    ShardPartitions,
    Stats,
)
from tally.client.batching import Batching
from tally.client.client import Client
from tally.client.columns import Batch, Columns
from tally.client.dead_letters import (
    DeadLetter,
    DeadLetterContent,
    DeadLetterPage,
    DeadLetterState,
    Decision,
)
from tally.client.ends import Progress
from tally.client.errors import (
    AlreadyDecided,
    BufferFull,
    ClientUnusable,
    ClusterMismatch,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotReplayable,
    NotSent,
    OutcomeUnknown,
    OutOfRange,
    Overloaded,
    RequestIdReused,
    ServerFault,
    StillSending,
    TallyError,
    Unavailable,
    Unimplemented,
    Violation,
)
from tally.client.events import Event, Function

__all__ = [
    "AlreadyDecided",
    "Audit",
    "Batch",
    "Batching",
    "BufferFull",
    "Client",
    "ClientUnusable",
    "Cluster",
    "ClusterMismatch",
    "Columns",
    "Count",
    "DeadLetter",
    "DeadLetterContent",
    "DeadLetterPage",
    "DeadLetterState",
    "DeadlineExceeded",
    "Decision",
    "Durability",
    "Event",
    "Function",
    "InvalidRequest",
    "Log",
    "NotFound",
    "NotReplayable",
    "NotSent",
    "OutOfRange",
    "OutcomeUnknown",
    "Overloaded",
    "PartitionMap",
    "Progress",
    "Receipt",
    "Refusal",
    "RequestIdReused",
    "ServerFault",
    "ShardPartitions",
    "Stats",
    "StillSending",
    "TallyError",
    "Unavailable",
    "Unimplemented",
    "Violation",
]
