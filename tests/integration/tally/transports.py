"""The transports that a batch may go by."""

import pytest

from tally.client.transport import TransportName

TRANSPORTS: tuple[TransportName, ...] = ("unary", "stream")
both = pytest.mark.parametrize("transport", TRANSPORTS)
OF_TRANSPORT = {"unary": "ProcessEvents", "stream": "StreamEvents"}
