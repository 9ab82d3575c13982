"""Videos and channels in CSV."""

import pytest

from services.cli.scheduler.member_rows import CHANNELS, VIDEOS
from services.cli.terminal.rows import BadLine, NoHeading, Row
from tally.client.scheduler import Channel, Video

HEADING = "youtube_id,channel_id,title,is_oon,has_label_association\n"


def read(text: str) -> list[Row[Video] | BadLine]:
    return list(VIDEOS.read(text.splitlines(keepends=True)))


def test_a_line_has_every_field_of_a_video() -> None:
    assert read(HEADING + 'v,c,"Title, the 1st",true,0\n') == [
        Row(2, Video("v", "c", "Title, the 1st", is_oon=True, has_label_association=False))
    ]


def test_what_is_empty_or_has_no_column_keeps_what_is_stored() -> None:
    assert read(HEADING + "v,,,,\n") == [Row(2, Video("v"))]
    assert read("is_oon,youtube_id\nF,v\n") == [Row(2, Video("v", is_oon=False))]


def test_a_channel_has_no_channel() -> None:
    rows = list(CHANNELS.read(["youtube_id,title,is_oon\n", "c,Title,t\n"]))
    assert rows == [Row(2, Channel("c", title="Title", is_oon=True))]
    with pytest.raises(NoHeading, match="'channel_id' is none"):
        list(CHANNELS.read(["youtube_id,channel_id\n"]))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",c,t,,", "youtube_id must be 1 to 128 bytes"),
        ("v,c\x01,t,,", "channel_id must be 1 to 128 bytes"),
        (f"v,c,{'é' * 2049},,", "title must be at most 4096 bytes"),
        ("v,c,t\0,,", "title must be at most 4096 bytes, without NUL"),
        ("v,c,t,yes,", "is_oon is 'yes', which is neither true nor false"),
        ("v,c,t,,2", "has_label_association is '2', which is neither true nor false"),
        ("v,c,t,", "has 4 columns, and the heading has 5"),
        ("v,c,\udcff,,", "title is not UTF-8"),
        ('v,c,"t,,', "has a quote that is not closed on its line"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_costs_no_other(line: str, problem: str) -> None:
    bad, good = read(HEADING + f"\n{line}\ngood,,,,\n")
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert problem in bad.problem
    assert good == Row(4, Video("good"))


@pytest.mark.parametrize("heading", ["title", "youtube_id,titel", "youtube_id,youtube_id"])
def test_a_file_without_the_right_heading_is_refused(heading: str) -> None:
    with pytest.raises(NoHeading, match="line 1: the first line of a CSV file names its columns"):
        read(heading + "\nv\n")
