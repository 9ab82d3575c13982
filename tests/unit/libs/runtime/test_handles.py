"""Handles: what one service of a process offers, another finds by the same handle."""

from collections.abc import Callable

import pytest

from libs.runtime.handles import Handle, Handles

GREET: Handle[Callable[[str], str]] = Handle("greet")
COUNT: Handle[int] = Handle("count")


def test_what_is_offered_is_found_by_its_handle_and_nothing_else_is() -> None:
    handles = Handles()
    assert handles.get(GREET) is None
    handles.offer({GREET: str.upper})
    greet = handles.get(GREET)
    assert greet is not None
    assert greet("hello") == "HELLO"
    assert handles.get(COUNT) is None


def test_a_handle_is_offered_by_one_service_alone() -> None:
    handles = Handles()
    handles.offer({COUNT: 1})
    with pytest.raises(ValueError, match="two services of this process offer the handle count"):
        handles.offer({COUNT: 2})
    assert handles.get(COUNT) == 1
