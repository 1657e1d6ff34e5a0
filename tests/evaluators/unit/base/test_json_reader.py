import pytest

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest

READERS = {"name": json_reader.text, "count": json_reader.integer(1, 5)}


def test_reads_a_valid_object():
    assert json_reader.read_object({"name": "a", "count": 5}, READERS, "job") == {"name": "a", "count": 5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "a"}, "job: missing count; the keys are count, name"),
        ({"name": "a", "count": 1, "extra": 1}, "job: unknown extra"),
        ({"name": 1, "count": 1}, "job.name: expected a string"),
        ({"name": "a", "count": 6}, "job.count: expected a whole number from 1 to 5, got 6"),
        ({"name": "a", "count": True}, "job.count: expected a whole number"),
        ({"name": "a", "count": 1.0}, "job.count: expected a whole number"),
        ([], "job: expected an object"),
    ],
)
def test_errors_name_the_location_and_what_is_expected(value, message):
    with pytest.raises(InvalidRequest) as caught:
        json_reader.read_object(value, READERS, "job")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (json_reader.sha256, "A" * 64),
        (json_reader.sha256, "a" * 64 + "\n"),
        (json_reader.number(), float("nan")),
        (json_reader.number(0), -1),
        (json_reader.number(), "1"),
        (json_reader.boolean, 1),
        (json_reader.sequence(json_reader.text, 1), ["a", "b"]),
        (json_reader.sequence(json_reader.text), "ab"),
        (json_reader.mapping(json_reader.text), {"a": 1}),
        (json_reader.text, "x" * 5000),
        (json_reader.text, "half \ud800"),
    ],
)
def test_readers_refuse_other_types_and_ranges(reader, value):
    with pytest.raises(InvalidRequest, match="here"):
        reader(value, "here")


def test_optional_accepts_none():
    assert json_reader.optional(json_reader.text)(None, "here") is None
