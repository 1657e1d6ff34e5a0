import pytest

from vitsearch_evaluators import strict
from vitsearch_evaluators.errors import InvalidRequest

READERS = {"name": strict.text, "count": strict.integer(1, 5)}


def test_reads_what_is_right():
    assert strict.read_object({"name": "a", "count": 5}, READERS, "job") == {"name": "a", "count": 5}


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
def test_says_where_and_what(value, message):
    with pytest.raises(InvalidRequest) as caught:
        strict.read_object(value, READERS, "job")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (strict.sha256, "A" * 64),
        (strict.sha256, "a" * 64 + "\n"),
        (strict.number(), float("nan")),
        (strict.number(0), -1),
        (strict.number(), "1"),
        (strict.boolean, 1),
        (strict.sequence(strict.text, 1), ["a", "b"]),
        (strict.sequence(strict.text), "ab"),
        (strict.mapping(strict.text), {"a": 1}),
        (strict.text, "x" * 5000),
        (strict.text, "half \ud800"),
    ],
)
def test_refuses(reader, value):
    with pytest.raises(InvalidRequest, match="here"):
        reader(value, "here")


def test_optional_lets_none_through():
    assert strict.optional(strict.text)(None, "here") is None
