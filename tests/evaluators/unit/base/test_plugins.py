import pytest

from vitsearch_agent.base import plugins
from vitsearch_agent.errors import AgentError, InvalidRequest

KNOWN = {"ordered": "collections:OrderedDict", "counter": "collections:Counter"}


def test_an_entry_point_adds_a_name():
    assert plugins.table("thing", "group", KNOWN, lambda: [("mine", "a:B")]) == dict(KNOWN, mine="a:B")


ENTRY_POINTS = """
[console_scripts]
mine = not_this:main

[the.group]
# a comment = x:y
first = a.b:C
second=d:E [extra]
"""


def install(folder, package, text):
    info = folder / package
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(text)


def test_installed_packages_are_found_as_python_finds_them(tmp_path, monkeypatch):
    install(tmp_path / "early", "Mine-2.dist-info", ENTRY_POINTS)
    install(tmp_path / "late", "mine-1.dist-info", "[the.group]\nhidden = a:B\n")
    install(tmp_path / "late", "old-1.egg-info", "[the.group]\nthird = f:G\n")
    monkeypatch.setattr(
        plugins.sys, "path", [str(tmp_path / "early"), str(tmp_path / "nowhere"), str(tmp_path / "late")]
    )
    points = list(plugins.installed_entry_points("the.group"))
    assert points == [("first", "a.b:C"), ("second", "d:E"), ("third", "f:G")]
    metadata = pytest.importorskip("importlib.metadata")
    if not hasattr(metadata, "EntryPoints"):
        pytest.skip("before Python 3.10 it cannot be asked for a group")
    expected = {(point.name, point.value.partition(" ")[0]) for point in metadata.entry_points(group="the.group")}
    assert set(points) == expected


def test_an_unreadable_entry_points_file_is_skipped(tmp_path, monkeypatch):
    install(tmp_path, "a-1.dist-info", "")
    (tmp_path / "a-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[the.group]")
    install(tmp_path, "b-1.dist-info", "[the.group]\nb = b:B\n")
    monkeypatch.setattr(plugins.sys, "path", [str(tmp_path)])
    assert list(plugins.installed_entry_points("the.group")) == [("b", "b:B")]


def test_registering_the_same_target_twice_is_allowed():
    assert plugins.table("thing", "group", KNOWN, lambda: [("counter", KNOWN["counter"])]) == KNOWN


def test_two_targets_with_one_name_are_refused():
    with pytest.raises(AgentError, match="big thing 'counter' is registered twice") as caught:
        plugins.table("big thing", "group", KNOWN, lambda: [("counter", "a:B")])
    assert caught.value.code == "duplicate_big_thing"


def test_a_class_is_imported_by_name():
    assert plugins.load("thing", "counter", KNOWN)("aab")["a"] == 2


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InvalidRequest, match="thing 'conter' is unknown; did you mean 'counter'"):
        plugins.load("thing", "conter", KNOWN)


def test_an_object_of_another_class_is_refused():
    with pytest.raises(AgentError, match="collections:OrderedDict is not a subclass of int"):
        plugins.checked(plugins.load("thing", "ordered", KNOWN)(), int)
