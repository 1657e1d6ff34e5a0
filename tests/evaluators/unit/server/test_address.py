"""The address that an agent prints, and the commands that lead to it."""

import socket

import pytest

from vitsearch_agent.server.address import Address, is_loopback, is_wildcard


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "nano")
    return "nano"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_agent_on_every_address_is_named_by_its_machine(here, host):
    address = Address.of(host, 8470, "sha256:ab")
    assert address == ("https://nano:8470", "vitsearch devices add https://nano:8470 --fingerprint sha256:ab", None)


def test_without_a_certificate_there_is_no_fingerprint(here):
    assert Address.of("192.0.2.7", 8470, None) == (
        "http://192.0.2.7:8470",
        "vitsearch devices add http://192.0.2.7:8470",
        None,
    )


def test_an_address_of_ipv6_stands_in_brackets(here):
    assert Address.of("2001:db8::7", 8470, None).url == "http://[2001:db8::7]:8470"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_agent_that_only_its_machine_reaches_needs_a_tunnel(here, host):
    assert Address.of(host, 8470, None).tunnel == "ssh -N -L 8470:127.0.0.1:8470 nano"


@pytest.mark.parametrize(("host", "loopback", "wildcard"), [("127.9.9.9", True, False), ("::", False, True)])
def test_kinds_of_hosts(host, loopback, wildcard):
    assert (is_loopback(host), is_wildcard(host)) == (loopback, wildcard)


def test_a_name_is_not_resolved():
    assert not is_loopback("nano.local")
