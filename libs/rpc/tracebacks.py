"""Drops tracebacks early: their frames keep the arguments of calls alive, such as requests of megabytes."""


def drop_tracebacks(error: BaseException) -> None:
    """Let go of the frames that an error went through, and those that led to it.

    For an error that is kept, or that has been reported to all its receivers. Otherwise its frames, which often
    hold it themselves, stay until a collection of garbage. (traceback.clear_frames would also end coroutines that
    are suspended in one of the frames.)
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
