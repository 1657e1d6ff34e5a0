"""The page of the policy says what the policy has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support import REPOSITORY
from vitsearch.cli.policy_page import page
from vitsearch.core.policy import POLICY


def test_the_page_agrees_with_the_policy():
    assert Path(REPOSITORY, "docs", "policy.md").read_text() == page(), (
        "run: python -m vitsearch.cli.policy_page > docs/policy.md"
    )


def test_the_page_shows_the_values_of_the_policy_that_it_is_given():
    other = replace(POLICY, ending=replace(POLICY.ending, low_proposals=77))
    changed = set(page(other).splitlines()) - set(page().splitlines())
    assert [line.split(" | ")[:2] for line in changed] == [["| `low_proposals`", "77"]]
