"""The rpcs of a backfill whose extra is not installed: each error says what to install."""

from typing import Any

from tally.backfill.v1.backfill_pb2_grpc import BackfillServiceServicer
from tally.backfill.v1.delivery_pb2_grpc import DeliveryServiceServicer
from tally.contract.errors import Unimplemented

INSTALL = (
    "the backfill needs more libraries where it runs. Install them: pip install 'tally-services[backfill]'"
)


async def _refuse_call(_self: object, _request: object, _context: object) -> Any:
    raise Unimplemented(INSTALL)


_refuse: Any = _refuse_call
"""in the place of each method"""


class UninstalledBackfill(BackfillServiceServicer):
    """Refuses every call."""

    CreateJob = GetJob = ListJobs = ListFailures = CountDataset = _refuse


class UninstalledDelivery(DeliveryServiceServicer):
    """Refuses every call."""

    GetAccounts = Deliver = ReportFailures = _refuse
