"""The failure of a command: a sentence that says what to do, and an exit code."""

OK = 0
REFUSED = 1
"""the service refused, or what was checked is not as it should be"""
USAGE = 2
"""the command was given what it cannot use"""
UNKNOWN = 3
"""nothing answers, or a write had no answer: it may or may not have been counted"""
INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells have it"""


class Failure(Exception):
    """Ends the command. The message goes to standard error."""

    def __init__(self, message: str, exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
