"""The user's devices on the disk: who can read them, what a damaged file says, what an address keeps."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from vitsearch.devices.agent_device import connect, reached
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.errors import ResourceError, UnknownName
from vitsearch.space.sections import Device

PIN = "sha256:" + "ab" * 32
NANO = KnownDevice("https://nano:8470", "t" * 64, PIN)


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def book(environ):
    return DeviceBook.of_user(environ)


def test_it_lies_where_the_xdg_specification_says(tmp_path):
    home = {"HOME": "/home/me"}
    assert DeviceBook.of_user(home).path == Path("/home/me/.config/vitsearch/devices.json")
    assert DeviceBook.of_user(home | {"XDG_CONFIG_HOME": "/x"}).path == Path("/x/vitsearch/devices.json")
    assert DeviceBook.of_user(home | {"XDG_CONFIG_HOME": "relative"}).path.is_relative_to("/home/me")


def test_devices_come_and_go(book):
    assert book.devices() == {}
    book.put("nano", NANO)
    book.put("pi", KnownDevice("http://127.0.0.1:8470"))
    assert book.get("nano") == NANO
    book.put("nano", KnownDevice("https://nano:1", None, PIN))
    book.remove("pi")
    assert book.devices() == {"nano": KnownDevice("https://nano:1", None, PIN)}


def test_only_the_owner_reads_it_and_nothing_else_is_left(book):
    book.put("nano", NANO)
    book.put("pi", NANO)
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(book.path.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in book.path.parent.iterdir()) == [".devices.lock", "devices.json"]


def test_who_adds_a_device_waits_for_another_that_does(book, monkeypatch):
    """The second is let in between the first one's reading and writing, as far as it comes."""
    second = DeviceBook(book.path)
    other = threading.Thread(target=second.put, args=("pi", NANO))
    has_read = threading.Event()
    read, write = second.devices, book._write

    def read_and_tell():
        found = read()
        has_read.set()
        return found

    def let_the_other_in(devices):
        other.start()
        has_read.wait(0.3)
        write(devices)

    monkeypatch.setattr(second, "devices", read_and_tell)
    monkeypatch.setattr(book, "_write", let_the_other_in)
    book.put("nano", NANO)
    other.join(60.0)
    assert sorted(book.devices()) == ["nano", "pi"]


def test_a_file_that_others_can_open_is_refused(book):
    book.put("nano", NANO)
    book.path.chmod(0o640)
    with pytest.raises(ResourceError, match="chmod 600"):
        book.devices()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "devices": {"a": {"uri": 1}}}', '{"version": 2}'])
def test_a_damaged_file_is_named_and_its_tokens_are_not_shown(book, content):
    book.put("nano", NANO)
    book.path.write_text(content)
    with pytest.raises(ResourceError, match="devices.json") as caught:
        book.devices()
    assert "t" * 64 not in str(caught.value)


def test_unknown_names_come_with_the_nearest_or_with_the_way_to_add_one(book):
    with pytest.raises(ResourceError, match="vitsearch devices add URL nano"):
        book.get("nano")
    book.put("nano", NANO)
    with pytest.raises(UnknownName, match="did you mean 'nano'"):
        book.get("nanno")


def test_a_token_is_in_no_repr():
    assert "t" * 64 not in repr(NANO)


def test_a_space_file_that_gives_only_the_name_takes_all_from_the_book(book, environ):
    book.put("nano", NANO)
    assert reached("nano", Device(), environ) == NANO
    assert reached("nano", Device(url=NANO.url), environ) == NANO


def test_what_the_space_file_gives_comes_first(book, environ):
    book.put("nano", NANO)
    other = "sha256:" + "cd" * 32
    found = reached("nano", Device(token="env:NANO", fingerprint=other), environ | {"NANO": "s" * 64})
    assert found == KnownDevice(NANO.url, "s" * 64, other)


def test_a_stored_token_is_for_the_address_that_it_was_stored_for(book, environ):
    book.put("nano", NANO)
    assert reached("nano", Device(url="https://elsewhere"), environ) == KnownDevice("https://elsewhere")


def test_a_stored_token_is_for_the_certificate_that_it_was_stored_for(book, environ):
    """A space file is passed around: with its address and a pin of its own it would have the token for itself."""
    book.put("nano", NANO)
    other = "sha256:" + "cd" * 32
    with pytest.raises(ResourceError, match=f"if it is the right one: vitsearch devices add .* --fingerprint {other}"):
        reached("nano", Device(url=NANO.url, fingerprint=other), environ)
    assert reached("nano", Device(url=NANO.url, fingerprint=PIN), environ) == NANO


def test_without_the_book_a_space_file_gives_everything(environ):
    asked = Device(url="https://nano:8470", token="env:NANO", fingerprint=PIN)
    assert reached("nano", asked, environ | {"NANO": "t" * 64}) == NANO
    with pytest.raises(ResourceError, match="NANO, which is not set"):
        reached("nano", asked, environ)


def test_what_is_no_token_is_told_without_showing_it():
    with pytest.raises(ResourceError, match="device nano: .*at least 32") as caught:
        connect("nano", KnownDevice("http://nano", "hunter2"), "study")
    assert "hunter2" not in str(caught.value)


def test_the_file_is_json_that_a_person_can_read(book):
    book.put("nano", NANO)
    assert json.loads(book.path.read_text())["devices"]["nano"]["url"] == NANO.url
