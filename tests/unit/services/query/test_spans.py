"""The spans of a range are the range, whatever its bounds; whole hours and days are read as such."""

from hypothesis import given
from hypothesis import strategies as st

from libs.domain.grains import Grain
from libs.domain.minutes import LAST_MINUTE, MinuteRange
from services.query.spans import cut
from tests.unit.libs.domain.batches import MODEST

DAY = 1_440 * 20_000
NEAR = st.integers(DAY - 1_500, DAY + 4_500)


@given(st.none() | NEAR, st.none() | NEAR, st.lists(NEAR, min_size=1))
@MODEST
def test_each_minute_of_a_range_is_in_one_span(
    start: int | None, end: int | None, minutes: list[int]
) -> None:
    spans = cut(MinuteRange(start, end))
    if spans.is_total:
        assert start is end is None
        assert spans.grains == [Grain.TOTAL]
        return
    for minute in [*minutes, *(each for each in (start, end) if each is not None)]:
        found = [
            grain
            for grain in (Grain.MINUTE, Grain.HOUR, Grain.DAY)
            for first, last in spans.of(grain)
            if first <= minute // grain.minutes * grain.minutes < last
        ]
        is_asked = (start is None or start <= minute) and (end is None or minute < end)
        assert len(found) == is_asked
        if found == [Grain.MINUTE]:
            assert minute // 60 in spans.edge_hours
    assert len(spans.edge_hours) <= 2
    assert sum(last - first for first, last in spans.edges) < 120
    assert sum(last - first for first, last in spans.hours) < 2 * 1_440


def test_an_open_end_has_no_edge() -> None:
    spans = cut(MinuteRange(DAY + 61))
    assert spans.edges == [(DAY + 61, DAY + 120)]
    assert spans.hours == [(DAY + 120, DAY + 1_440)]
    assert spans.days[0][1] > LAST_MINUTE
