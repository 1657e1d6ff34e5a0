"""No form of an address shows a password."""

from __future__ import annotations

import pytest

from vitsearch.storage.addresses import masked, shown_argument


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://me:secret@db/vit#parts", "postgresql+psycopg://me:***@db/vit#parts"),
        ("storage=postgresql+psycopg://me:secret@db/vit", "storage=postgresql+psycopg://me:***@db/vit"),
        ("studies/a:b@c.db", "studies/a:b@c.db"),
    ],
)
def test_an_argument_is_masked_where_it_has_a_url(text, shown):
    assert shown_argument(text) == shown
