"""Several things are asked at once; each ends in time, and no fault of this program is taken for an answer."""

from __future__ import annotations

import threading
import time

import pytest

from vitsearch.errors import NoAnswer, StoreError
from vitsearch.search.check.probes import Probe, ask_all


def probe(what, ask, **more):
    return Probe(what, f"place of {what}", ask, "wake it up", **more)


def refuse():
    raise StoreError("it refuses")


@pytest.fixture
def never():
    """What a silent thing does; let go at the end, so that no thread is left."""
    end = threading.Event()

    def wait():
        end.wait(60)
        return "too late"

    yield wait
    end.set()


def test_what_answers_and_what_refuses_are_both_reported_in_order():
    first, second = ask_all([probe("a", refuse), probe("b", lambda: "fine")], 60.0)
    assert (str(first.error), second.text) == ("it refuses", "fine")


def test_what_never_answers_is_named_with_where_and_what_to_do(never):
    (answer,) = ask_all([probe("a", never)], 0.05)
    assert isinstance(answer.error, NoAnswer)
    assert str(answer.error) == "a: place of a does not answer within 0.05 s; wake it up"


def test_the_answers_of_others_are_kept_where_one_never_answers(never):
    done = threading.Event()

    def said():
        done.set()
        return "fine"

    first, second = ask_all([probe("a", lambda: never() if done.wait(60) else ""), probe("b", said)], 1.0)
    assert (first.text, second.text) == (None, "fine")


@pytest.mark.parametrize("before", ["silent", "refusing"])
def test_what_comes_after_something_that_fails_is_left_out(never, before):
    answers = ask_all([probe("a", never if before == "silent" else refuse), probe("b", refuse, after="a")], 0.05)
    assert [answer.probe.what for answer in answers] == ["a"]


def test_what_comes_after_something_that_answers_is_asked():
    answers = ask_all([probe("a", lambda: "first"), probe("b", lambda: "second", after="a")], 60.0)
    assert [answer.text for answer in answers] == ["first", "second"]


def test_what_comes_after_something_has_its_own_time(never):
    first, second = (lambda: time.sleep(0.4) or "fine" for _ in range(2))
    _, answer = ask_all([probe("a", first), probe("b", second, after="a")], 0.7)
    assert answer.text == "fine"
    _, answer = ask_all([probe("a", lambda: "first"), probe("b", never, after="a")], 0.2)
    assert "b: place of b does not answer within 0.2 s" in str(answer.error)


def test_a_fault_of_this_program_is_raised():
    with pytest.raises(ZeroDivisionError):
        ask_all([probe("a", lambda: str(1 / 0))], 60.0)
