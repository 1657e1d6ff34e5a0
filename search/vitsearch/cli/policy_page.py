"""The page `docs/policy.md`, made from the policy: `python -m vitsearch.cli.policy_page > docs/policy.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from vitsearch.core.policy import BENCHMARK, POLICY, WHY, SearchPolicy

HEAD = """# What decides a search

The constants by which `vitsearch run` decides what is trained, when it ends and what counts as equal are one frozen
value, `SearchPolicy` in `search/vitsearch/core/policy.py`. This page is made from it. Before a constant changes, run
the benchmark beside it in turn with the state before; where there is none, no benchmark shows that constant alone.

What a person may decide is in the space file: trainings, budget, candidates of a round, margin, limits. Elsewhere are
the priors of the models that predict (`search/forecast/`, `search/retarget/transfer_model.py`, `study/auto_sampler/`),
and how the agent measures."""


def page(policy: SearchPolicy = POLICY) -> str:
    """The text of `docs/policy.md`."""
    sections = [_section(group.name, getattr(policy, group.name)) for group in fields(policy)]
    return "\n\n".join([HEAD, *sections]) + "\n"


def _section(name: str, group: Any) -> str:
    about = " ".join((type(group).__doc__ or "").split())
    head = ["| constant | value | why | benchmark |", "|---|---|---|---|"]
    return "\n".join([f"## {name.replace('_', ' ').capitalize()}", "", about, "", *head, *_rows(group)])


def _rows(group: Any) -> Iterator[str]:
    for rule in fields(group):
        benchmark = rule.metadata[BENCHMARK]
        cells = [f"`{rule.name}`", f"{getattr(group, rule.name):g}", rule.metadata[WHY]]
        yield f"| {' | '.join([*cells, f'`{benchmark}`' if benchmark else ''])} |"


if __name__ == "__main__":
    print(page(), end="")
