"""The client for threads and scripts: the asynchronous one, on an event loop in its own thread.

Its types are in `blocking.pyi`, which `make docs` derives from the asynchronous client.
"""

from tally.client._threads.client import Client

__all__ = ["Client"]
