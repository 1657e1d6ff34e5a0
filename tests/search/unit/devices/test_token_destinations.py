"""A token of the environment goes to the address beside it in a space file that this user has checked or run."""

from __future__ import annotations

import json
import os
import stat

import pytest

from vitsearch.devices import token_destinations
from vitsearch.devices.connection import connection_problems, known_device
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.devices.token_destinations import TokenDestinations, remember_destinations, token_uses
from vitsearch.errors import ResourceError
from vitsearch.space.sections import DeviceSection

PIN = "sha256:" + "ab" * 32
NANO = DeviceSection(url="https://nano.example:8470", token="env:VITSEARCH_NANO", fingerprint=PIN)


@pytest.fixture
def environ(tmp_path, monkeypatch):
    """That of a user who has seen no file yet."""
    monkeypatch.setattr(token_destinations, "_named_here", set())
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "VITSEARCH_NANO": "s" * 64}


@pytest.fixture
def later(monkeypatch):
    """Another process of this user."""

    def forget():
        monkeypatch.setattr(token_destinations, "_named_here", set())

    return forget


def test_a_token_goes_where_a_file_has_said_also_later(environ, later):
    remember_destinations({"nano": NANO}, environ)
    later()
    assert known_device("nano", NANO, environ) == KnownDevice(NANO.url, "s" * 64, PIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://evil.example:8470"},
        {"url": "https://nano.example:8471"},
        {"url": "http://nano.example:8470", "fingerprint": None},
        {"fingerprint": None},
        {"fingerprint": "sha256:" + "cd" * 32},
        {"token": "env:VITSEARCH_OTHER"},
    ],
    ids=["host", "port", "scheme", "no-pin", "pin", "variable"],
)
def test_what_only_a_database_says_gets_no_token(environ, later, changes):
    remember_destinations({"nano": NANO}, environ)
    later()
    stored = DeviceSection.model_validate(NANO.model_dump(by_alias=True) | changes)
    with pytest.raises(
        ResourceError, match="^device nano: by the database of the study, .* gets the token in VITSEARCH"
    ):
        known_device("nano", stored, environ | {"VITSEARCH_OTHER": "o" * 64})
    assert len(connection_problems({"nano": stored}, environ)) == 1


def test_the_message_names_the_address_the_variable_and_the_way_out(environ):
    with pytest.raises(ResourceError) as error:
        known_device("nano", NANO, environ)
    assert str(error.value) == (
        "device nano: by the database of the study, nano.example:8470 gets the token in VITSEARCH_NANO, but no space "
        "file that you have checked or run here says so; if it is right, run: vitsearch check FILE, with a file that "
        "names both"
    )


def test_where_nothing_can_be_written_a_file_counts_in_its_process(environ, monkeypatch):
    def full(path, mode):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(token_destinations, "replacing", full)
    remember_destinations({"nano": NANO}, environ)
    device = known_device("nano", DeviceSection.model_validate(NANO.model_dump(by_alias=True)), environ)
    assert device.token == "s" * 64


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 1, "destinations": [3]}', '{"version": 1, "destinations": 7}']
)
def test_a_damaged_file_allows_nothing_and_is_replaced(environ, later, content):
    destinations = TokenDestinations.of_user(environ)
    destinations.path.parent.mkdir(parents=True)
    destinations.path.write_text(content)
    with pytest.raises(ResourceError):
        known_device("nano", NANO, environ)
    remember_destinations({"nano": NANO}, environ)
    later()
    assert known_device("nano", NANO, environ).token == "s" * 64


def test_the_file_is_private_and_holds_no_token(environ):
    remember_destinations({"nano": NANO}, environ)
    path = TokenDestinations.of_user(environ).path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "s" * 64 not in path.read_text()
    assert json.loads(path.read_text())["destinations"] == [
        {"variable": "VITSEARCH_NANO", "url": "https://nano.example:8470", "fingerprint": PIN}
    ]


def test_the_newest_destinations_are_kept(environ, later, monkeypatch):
    monkeypatch.setattr(token_destinations, "_KEPT", 3)
    boards = [DeviceSection(url=f"https://b{n}.example", token="env:VITSEARCH_NANO") for n in range(5)]
    for board in boards:
        remember_destinations({"b": board}, environ)
    later()
    assert not connection_problems({"b": boards[-1]}, environ)
    assert connection_problems({"b": boards[0]}, environ)


def test_each_address_that_gets_a_token_is_described(environ):
    DeviceBook.of_user(environ).put("pi", KnownDevice("https://pi.example:8470", "t" * 64, PIN))
    boards = {"a": {"url": "https://A.example", "token": "env:VITSEARCH_A"}, "b": {"url": "http://127.0.0.1:8470"}}
    devices = {
        "nano": NANO,
        "pool": DeviceSection.model_validate({"boards": boards}),
        "pi": DeviceSection(),
        "lan": DeviceSection(url="http://lan.example", token="env:VITSEARCH_LAN"),
        "v6": DeviceSection(url="http://[::1]:8470", token="env:VITSEARCH_LAN"),
    }
    assert [use.describe() for use in token_uses(devices, environ)] == [
        "device nano: nano.example:8470 gets the token in VITSEARCH_NANO",
        "device a: a.example:443 gets the token in VITSEARCH_A",
        "device pi: pi.example:8470 gets the token stored by 'vitsearch devices add'",
        "device lan: lan.example:80 gets the token in VITSEARCH_LAN, unencrypted: who is on the way can read it",
        "device v6: [::1]:8470 gets the token in VITSEARCH_LAN",
    ]


def test_a_book_that_cannot_be_read_hides_no_token_of_the_environment(environ):
    book = DeviceBook.of_user(environ)
    book.path.parent.mkdir(parents=True)
    book.path.write_text("damaged")
    assert [use.device for use in token_uses({"nano": NANO}, environ)] == ["nano"]
