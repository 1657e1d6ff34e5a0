"""No form of an address shows a password."""

from __future__ import annotations

import pytest

from vitsearch.storage.addresses import masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@db.local:5432/vit", "postgresql+psycopg://me:***@db.local:5432/vit"),
        (
            "postgresql+psycopg://me:se@cret@db/vit?sslmode=require",
            "postgresql+psycopg://me:***@db/vit?sslmode=require",
        ),
        ("postgresql+psycopg://db/vit?user=me&password=secret", "postgresql+psycopg://db/vit?user=me&password=***"),
        ("me:secret@db/vit", "me:***@db/vit"),
    ],
)
def test_passwords_are_masked(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize("url", ["sqlite:///studies/x.db", "postgresql+psycopg://me@db:5432/vit", "studies/x.db", ""])
def test_what_has_no_password_stays(url):
    assert masked(url) == url
