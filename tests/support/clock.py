"""Time that a test turns."""


class Clock:
    """Stands still until a test moves `seconds`; both of its times come from there."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def monotonic(self) -> float:
        return self.seconds

    def now_us(self) -> int:
        return int(self.seconds * 1_000_000)
