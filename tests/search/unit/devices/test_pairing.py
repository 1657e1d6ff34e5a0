"""Names, addresses and fingerprints of devices to pair with."""

from __future__ import annotations

import pytest

from vitsearch.devices.pairing import PairingRequest, name_from
from vitsearch.errors import ResourceError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://nano.local:8470", "nano"),
        ("https://Orin-2:8470", "orin-2"),
        ("http://127.0.0.1:8470", "127-0-0-1"),
        ("https://[fe80::1]:8470", "fe80-1"),
        ("https://my_board.lab.example", "my_board"),
        ("nonsense", "device"),
    ],
)
def test_default_name_comes_from_the_host(url, name):
    assert name_from(url) == name


@pytest.mark.parametrize("url", ["nano.local", "ftp://nano", "https://me:hunter2@nano"])
def test_invalid_addresses_are_refused_without_showing_passwords(url):
    with pytest.raises(ResourceError) as caught:
        PairingRequest(url, "nano", None)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Nano", "a b", "../x", "-x"])
def test_invalid_names_are_refused(name):
    with pytest.raises(ResourceError, match="a-z, 0-9"):
        PairingRequest("https://nano", name, None)


def test_fingerprints_in_the_form_of_openssl_are_accepted():
    assert PairingRequest("https://nano/", "nano", ":".join(["AB"] * 32)) == PairingRequest(
        "https://nano", "nano", "sha256:" + "ab" * 32
    )
    with pytest.raises(ResourceError, match="64 hex digits"):
        PairingRequest("https://nano", "nano", "sha256:12")
