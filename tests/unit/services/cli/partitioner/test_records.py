import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.partitioner.records import BadLine, NoHeading, Record, read_records
from tally.client import Event, Function

HEADING = "video_id,event_type,event_time,value,actor_id,function\n"
NOON = datetime(2017, 10, 9, 12, tzinfo=UTC)
FULL = Event("v", "watch", NOON, 2.5, "someone", Function.SUM)


def read(text: str) -> list[Record | BadLine]:
    return list(read_records(text.splitlines(keepends=True)))


def problem_of(text: str) -> str:
    (bad,) = read(text)
    assert isinstance(bad, BadLine)
    return bad.problem


def test_csv_has_every_field_of_an_event() -> None:
    assert read(HEADING + "v,watch,2017-10-09T12:00:00Z,2.5,someone,sum\n") == [Record(2, FULL)]


def test_json_lines_have_every_field_of_an_event() -> None:
    fields = {"video_id": "v", "event_type": "watch", "event_time": 1507550400, "value": 2.5}
    assert read(json.dumps({**fields, "actor_id": "someone", "function": "SUM"})) == [Record(1, FULL)]


def test_only_the_video_is_needed() -> None:
    assert read("video_id\nv\n") == [Record(2, Event("v"))]
    assert read(HEADING + "v,,,,,\n") == [Record(2, Event("v"))]
    assert read('{"video_id": "v"}') == [Record(1, Event("v"))]
    assert read('{"video_id": "v", "value": null, "event_type": null}') == [Record(1, Event("v"))]


def test_columns_may_come_in_any_order() -> None:
    assert read("value,video_id\n3,v\n") == [Record(2, Event("v", value=3.0))]


def test_a_line_number_is_that_of_the_file() -> None:
    text = "\n\n" + 'video_id,actor_id\na,x\n\nb,"x"\n  \nc,x,1\nd,\n'
    found = read(text)
    assert [record.line for record in found] == [4, 6, 8, 9]
    assert isinstance(found[2], BadLine)
    assert [each.line for each in read('\n{"video_id":"a"}\n\n{}\n{"video_id":"b"}\n')] == [2, 4, 5]


def test_a_line_of_csv_is_a_record_so_that_a_quote_never_swallows_the_lines_behind_it() -> None:
    text = "video_id,actor_id\n" + 'a,"x\nb,y\n"c,y"\nd"\n"e","1, ""2"""\nf,x\n' + '"g,x'
    found = read(text)
    assert [(each.line, type(each)) for each in found] == [
        *((2, BadLine), (3, Record), (4, BadLine), (5, BadLine), (6, Record), (7, Record), (8, BadLine))
    ]
    assert found[4] == Record(6, Event("e", actor_id='1, "2"'))
    for bad in (found[0], found[6]):
        assert isinstance(bad, BadLine)
        assert bad.problem.startswith("has a quote that is not closed on its line")


def test_a_heading_with_an_open_quote_is_none() -> None:
    with pytest.raises(NoHeading, match=r"^line 1: .*, and it has a quote that is not closed on its line"):
        read('"video_id,event_type\nv,view\n')


@pytest.mark.parametrize("text", ["1_000", "\u0661\u0662", "\uff11", "0x10", "1e", ".", "infinity", "1 000"])
def test_only_ascii_digits_make_a_number(text: str) -> None:
    assert f"{text!r} is no number" in problem_of(f"video_id,value\nv,{text}\n")
    assert f"{text!r} is no number" in problem_of(json.dumps({"video_id": "v", "value": text}))


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (" -2.5 ", -2.5), (".5", 0.5), ("3.", 3.0), ("1e3", 1000.0)]
)
def test_a_number_is_written_as_usual(text: str, value: float) -> None:
    assert read(f"video_id,value\nv,{text}\n") == [Record(2, Event("v", value=value))]


def test_a_time_of_a_file_is_read_as_that_of_an_option() -> None:
    noon = [Record(2, Event("v", event_time=NOON))]
    for text in ("1507550400", "1507550400000", "1507550400s", "20171009T1200Z"):
        assert read(f"video_id,event_time\nv,{text}\n") == noon
    for number in ("1507550400", "1507550400.0", "1507550400000", '"1507550400000ms"'):
        assert read(f'{{"video_id": "v", "event_time": {number}}}') == [
            Record(1, Event("v", event_time=NOON))
        ]


def test_an_empty_file_has_no_events() -> None:
    assert read("") == read("\n \n") == read(HEADING) == []


@pytest.mark.parametrize(
    ("heading", "problem"),
    [
        ("video,type", "'video' is none"),
        ("video_id,video_id", "'video_id' is none, or there twice"),
        ("event_type,value", "video_id is missing"),
    ],
)
def test_a_csv_file_without_a_heading_is_not_read(heading: str, problem: str) -> None:
    with pytest.raises(NoHeading, match=f"^line 2: .*{problem}"):
        read(f"\n{heading}\n")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",view,,,,", "video_id must be 1 to 128 bytes of UTF-8"),
        ("v,View,,,,", "event_type must be 1 to 64 of"),
        ("v,,tomorrow,,,", "'tomorrow' is no time"),
        ("v,,1999-12-31,,,", "event_time must be from the year 2000"),
        ("v,,,much,,", "'much' is no number"),
        ("v,,,nan,,", "'nan' is no number"),
        ("v,,,1e300,,", "value must be a finite number"),
        (f"v,,,,{'x' * 129},", "actor_id must be at most 128 bytes"),
        ("v,,,,,median", "function: 'median' is none of count, sum"),
        ("v,,,,,sum", "the function sum needs a value"),
        ("v,,,,,distinct", "the function distinct needs an actor"),
        ("v,view", "has 2 columns, and the heading has 6"),
        ("\udcff,,,,,", "video_id is not UTF-8"),
        (f"{'x' * 200_000},,,,,", "field larger than field limit"),
    ],
)
def test_a_bad_row_says_what_is_wrong(row: str, problem: str) -> None:
    assert problem in problem_of(f"{HEADING}{row}\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"video_id": "v"', "is no JSON: Expecting ',' delimiter at character 17"),
        ('{"video_id": "v", "videoid": 1}', "has 'videoid', and an event has video_id, event_type"),
        ('{"video_id": 5}', "video_id is 5, which is no text"),
        ('{"video_id": "v", "value": true}', "True is no number"),
        ('{"video_id": "v", "value": []}', "[] is no number"),
        ('{"video_id": "v", "value": NaN}', "value must be a finite number"),
        (f'{{"video_id": "v", "value": 1{"0" * 400}}}', "is no number that fits"),
        ('{"video_id": "v", "event_time": 15075504000}', "is no time between 2000 and 2100"),
        ('{"video_id": "v", "event_time": 20171009}', "is no time between 2000 and 2100"),
        ('{"video_id": "v", "event_time": NaN}', "is no time between 2000 and 2100"),
        ('{"video_id": "v", "event_time": {}}', "{} is no number"),
        ('{"video_id": "\\ud800"}', "video_id is not UTF-8"),
        ('{"video_id": "v", "value": ' + "[" * 100_000, "recursion"),
    ],
)
def test_a_bad_json_line_says_what_is_wrong(line: str, problem: str) -> None:
    assert problem in problem_of(line)


def test_a_json_line_that_is_no_object_is_bad() -> None:
    assert [type(each) for each in read('{"video_id": "v"}\n[1]\n"x"\n{"video_id": "w"}')] == [
        *(Record, BadLine, BadLine, Record)
    ]


def test_a_time_ahead_is_left_to_the_clock_of_the_service() -> None:
    assert read('{"video_id": "v", "event_time": 4102444740}') == [
        Record(1, Event("v", event_time=datetime(2099, 12, 31, 23, 59, tzinfo=UTC)))
    ]


@given(st.text())
def test_any_line_is_an_event_or_a_bad_line(text: str) -> None:
    lines = ['{"video_id": "v"}\n', text.replace("\n", " ").replace("\r", " ") + "\n"]
    assert all(isinstance(each, Record | BadLine) for each in read_records(lines))


@given(st.text())
def test_any_row_is_an_event_or_a_bad_line(text: str) -> None:
    assert all(isinstance(each, Record | BadLine) for each in read_records([HEADING, text]))
