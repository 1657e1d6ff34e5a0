import pytest

from vitsearch_evaluators import plugins
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest

KNOWN = {"ordered": "collections:OrderedDict", "counter": "collections:Counter"}


def test_another_package_adds_a_name():
    assert plugins.table("thing", "group", KNOWN, lambda: [("mine", "a:B")]) == dict(KNOWN, mine="a:B")


def test_the_same_target_twice_is_one():
    assert plugins.table("thing", "group", KNOWN, lambda: [("counter", KNOWN["counter"])]) == KNOWN


def test_two_targets_of_one_name_are_refused():
    with pytest.raises(EvaluatorError, match="big thing 'counter' is registered twice") as caught:
        plugins.table("big thing", "group", KNOWN, lambda: [("counter", "a:B")])
    assert caught.value.code == "duplicate_big_thing"


def test_a_class_is_imported_by_name():
    assert plugins.load("thing", "counter", KNOWN)("aab")["a"] == 2


def test_an_unknown_name_tells_the_nearest():
    with pytest.raises(InvalidRequest, match="thing 'conter' is unknown; did you mean 'counter'"):
        plugins.load("thing", "conter", KNOWN)


def test_what_is_of_another_kind_is_refused():
    with pytest.raises(EvaluatorError, match="collections:OrderedDict is not a subclass of int"):
        plugins.checked(plugins.load("thing", "ordered", KNOWN)(), int)
