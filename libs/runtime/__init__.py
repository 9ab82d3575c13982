"""How a process lives: loops that must not die, signals, start and stop in order."""
