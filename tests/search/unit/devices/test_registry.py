"""The stored devices: permissions, damaged files, and what a space file takes from them."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from vitsearch.devices.connection import connect, known_device
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import ResourceError, UnknownName
from vitsearch.space.sections import DeviceSection

PIN = "sha256:" + "ab" * 32
NANO = KnownDevice("https://nano:8470", "t" * 64, PIN)


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def book(environ):
    return DeviceBook.of_user(environ)


def test_the_path_follows_the_xdg_specification(tmp_path):
    home = {"HOME": "/home/me"}
    assert DeviceBook.of_user(home).path == Path("/home/me/.config/vitsearch/devices.json")
    assert DeviceBook.of_user(home | {"XDG_CONFIG_HOME": "/x"}).path == Path("/x/vitsearch/devices.json")
    assert DeviceBook.of_user(home | {"XDG_CONFIG_HOME": "relative"}).path.is_relative_to("/home/me")


def test_devices_are_added_replaced_and_removed(book):
    assert book.devices() == {}
    book.put("nano", NANO)
    book.put("pi", KnownDevice("http://127.0.0.1:8470"))
    assert book.get("nano") == NANO
    book.put("nano", KnownDevice("https://nano:1", None, PIN))
    book.remove("pi")
    assert book.devices() == {"nano": KnownDevice("https://nano:1", None, PIN)}


def test_only_the_owner_can_read_the_file_and_nothing_else_is_left(book):
    book.put("nano", NANO)
    book.put("pi", NANO)
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(book.path.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in book.path.parent.iterdir()) == [".devices.lock", "devices.json"]


def test_adding_a_device_waits_for_another_process_that_adds_one(book, monkeypatch):
    """The second process starts between the first one's reading and writing."""
    second = DeviceBook(book.path)
    other = threading.Thread(target=second.put, args=("pi", NANO))
    has_read = threading.Event()
    read, write = second.devices, book._write

    def read_and_signal():
        devices = read()
        has_read.set()
        return devices

    def let_the_other_in(devices):
        other.start()
        has_read.wait(0.3)
        write(devices)

    monkeypatch.setattr(second, "devices", read_and_signal)
    monkeypatch.setattr(book, "_write", let_the_other_in)
    book.put("nano", NANO)
    other.join(60.0)
    assert sorted(book.devices()) == ["nano", "pi"]


def test_a_file_that_others_can_read_is_refused(book):
    book.put("nano", NANO)
    book.path.chmod(0o640)
    with pytest.raises(ResourceError, match="chmod 600"):
        book.devices()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "devices": {"a": {"uri": 1}}}', '{"version": 2}'])
def test_a_damaged_file_is_reported_without_its_tokens(book, content):
    book.put("nano", NANO)
    book.path.write_text(content)
    with pytest.raises(ResourceError, match="devices.json") as caught:
        book.devices()
    assert "t" * 64 not in str(caught.value)


def test_unknown_names_are_reported_with_the_nearest_or_the_command_to_add_one(book):
    with pytest.raises(ResourceError, match="vitsearch devices add URL nano"):
        book.get("nano")
    book.put("nano", NANO)
    with pytest.raises(UnknownName, match="did you mean 'nano'"):
        book.get("nanno")


def test_repr_does_not_show_the_token():
    assert "t" * 64 not in repr(NANO)


def test_a_space_file_with_only_the_name_uses_the_stored_device(book, environ):
    book.put("nano", NANO)
    assert known_device("nano", DeviceSection(), environ) == NANO
    assert known_device("nano", DeviceSection(url=NANO.url), environ) == NANO


def test_keys_of_the_space_file_take_precedence(book, environ):
    book.put("nano", NANO)
    other = "sha256:" + "cd" * 32
    section = DeviceSection(url=NANO.url, token="env:VITSEARCH_NANO", fingerprint=other)
    remember_destinations({"nano": section}, environ)
    device = known_device("nano", section, environ | {"VITSEARCH_NANO": "s" * 64})
    assert device == KnownDevice(NANO.url, "s" * 64, other)


def test_a_stored_token_is_not_sent_to_another_address(book, environ):
    book.put("nano", NANO)
    assert known_device("nano", DeviceSection(url="https://elsewhere"), environ) == KnownDevice("https://elsewhere")


def test_a_stored_token_is_not_sent_to_another_certificate(book, environ):
    """A shared space file with the same address and its own fingerprint could otherwise obtain the token."""
    book.put("nano", NANO)
    other = "sha256:" + "cd" * 32
    with pytest.raises(
        ResourceError, match=f"if the space file is right, run: vitsearch devices add .* --fingerprint {other}"
    ):
        known_device("nano", DeviceSection(url=NANO.url, fingerprint=other), environ)
    assert known_device("nano", DeviceSection(url=NANO.url, fingerprint=PIN), environ) == NANO


def test_an_unknown_device_is_reached_with_the_keys_of_the_space_file(environ):
    section = DeviceSection(url="https://nano:8470", token="env:VITSEARCH_NANO", fingerprint=PIN)
    remember_destinations({"nano": section}, environ)
    assert known_device("nano", section, environ | {"VITSEARCH_NANO": "t" * 64}) == NANO
    with pytest.raises(ResourceError, match="VITSEARCH_NANO must hold the token, but it is not set"):
        known_device("nano", section, environ)


def test_an_invalid_token_is_reported_without_showing_it():
    with pytest.raises(ResourceError, match="device nano: .*at least 32") as caught:
        connect("nano", KnownDevice("http://nano", "hunter2"), "study")
    assert "hunter2" not in str(caught.value)


def test_the_file_is_readable_json(book):
    book.put("nano", NANO)
    assert json.loads(book.path.read_text())["devices"]["nano"]["url"] == NANO.url
