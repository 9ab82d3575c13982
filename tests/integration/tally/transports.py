"""The two transports that one peer can serve; direct mode needs shards (`test_direct.py`)."""

import pytest

by_either_transport = pytest.mark.parametrize("transport", ["unary", "stream"])
RPC_OF = {"unary": "ProcessEvents", "stream": "StreamEvents"}
