"""Print the leaderboard of a study as a Markdown table: the cost of each family at each precision.

vitsearch run benchmarks/families.yaml
python benchmarks/families_table.py families
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from vitsearch import backbones
from vitsearch.core.plan import Plan, model_text
from vitsearch.study.lookup import opened

HEAD = ("family", "model", "precision", "accuracy", "CPU ms", "of fp32", "size MB", "memory MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    with opened(parser.parse_args().study) as (study, _):
        leaderboard = [(Plan.from_json(leader["plan"]), leader["values"]) for leader in study.attributes["leaderboard"]]
    print(row(HEAD))
    print(row(["---"] * len(HEAD)))
    for line in lines(leaderboard):
        print(row(line))


def lines(leaderboard: list[tuple[Plan, Mapping[str, float | None]]]) -> Iterator[list[str]]:
    fp32 = {plan.backbone: values["cpu_ms_p50"] for plan, values in leaderboard if plan.deployment.precision == "fp32"}
    for plan, values in leaderboard:
        cost, reference = values["cpu_ms_p50"], fp32.get(plan.backbone)
        yield [
            backbones.find(plan.backbone).family,
            model_text(plan),
            plan.deployment.precision,
            shown(values["accuracy"], ".4f"),
            shown(cost, ".3g"),
            shown(cost / reference if cost and reference else None, ".2f"),
            shown(values["size_mb"], ".2f"),
            shown(values["peak_memory_mb"], ".1f"),
        ]


def shown(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)


def row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
