"""What the sweep over timm's architectures found, as Markdown: docs/capabilities.md and the site's page of all names.

python tools/variants_page.py     writes the tables of docs/capabilities.md again, from benchmarks/variants.json
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
RESULTS, PAGE = REPOSITORY / "benchmarks" / "variants.json", REPOSITORY / "docs" / "capabilities.md"
BEGIN, END = "<!-- the sweep: begin -->\n", "<!-- the sweep: end -->\n"
LEVELS = ("widths", "heads", "blocks")
EXACT, LARGEST_FILE = 1e-5, 2**31
Results = Mapping[str, Mapping[str, Any]]


def main() -> None:
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}{tables(results())}{END}{tail}")


def results() -> Results:
    """The outcome of the last sweep: `names`, and `variants` that were tried."""
    read: Results = json.loads(RESULTS.read_text())
    return read


def works(outcome: Mapping[str, Any]) -> bool:
    """Whether a variant is exact when it is cut, and computes in both runtimes what it does in torch."""
    if "reason" in outcome or not outcome["cut_error"] <= EXACT:
        return False
    return all(isinstance(difference, float) for difference in outcome["parity"].values())


def levels_of_names(swept: Results) -> dict[str, frozenset[str]]:
    """The levels of each admitted name: those of which a variant of its timm module proves a class that it has.

    Args:
        swept: The results of the sweep.

    Returns:
        The levels by name; a name that is not admitted is left out.
    """
    proved: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, outcome in swept["variants"].items():
        if works(outcome):
            for level in LEVELS:
                proved[swept["names"][name]["module"]][level] |= {*outcome[level]}
    working = {swept["names"][name]["module"] for name, outcome in swept["variants"].items() if works(outcome)}
    admitted = {}
    for name, entry in swept["names"].items():
        is_refused = "reason" in swept["variants"].get(name, {}) and not _is_only_large(swept["variants"][name])
        if entry["module"] not in working or is_refused or 4e6 * entry["params_m"] >= LARGEST_FILE:
            continue
        classes = proved[entry["module"]]
        shared = (level for level in LEVELS if classes[level] & {*entry["classes"]})
        admitted[name] = frozenset(entry.get("declared", shared))
    return admitted


def _is_only_large(outcome: Mapping[str, Any]) -> bool:
    return "too large to be tried here" in outcome["reason"]


def tables(swept: Results) -> str:
    """The counts, a row for each variant that works, and the reasons of the others."""
    levels, outcomes = levels_of_names(swept), swept["variants"]
    seconds = sorted(outcome["find_cpu_s"] for outcome in outcomes.values() if "find_cpu_s" in outcome)
    working = {name: outcome for name, outcome in sorted(outcomes.items()) if works(outcome)}
    counted = {level: sum(level in each for each in levels.values()) for level in LEVELS}
    text = [
        f"{len(levels):,} of timm's {len(swept['names']):,} names take part: {counted['widths']:,} with hidden "
        f"channels that can be cut, {counted['heads']:,} with heads, {counted['blocks']:,} with blocks that can be "
        f"dropped. {len(outcomes)} variants were tried, {len(working)} of them work. To build one and find its "
        f"structure took {_quantile(seconds, 0.5):.1f} CPU-seconds in the median, {_quantile(seconds, 0.9):.1f} for "
        "90 %.",
        "",
        "| variant | module | px | hidden channels | heads | blocks | onnxruntime | OpenVINO |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, swept["names"][name]["module"], outcome) for name, outcome in working.items()),
        "",
        "These do not work:",
        "",
        *(f"- `{name}`: {_reason(outcome)}" for name, outcome in sorted(outcomes.items()) if not works(outcome)),
        "",
    ]
    return "\n".join(text)


def _quantile(values: list[float], share: float) -> float:
    return values[int(len(values) * share)]


def _row(name: str, module: str, outcome: Mapping[str, Any]) -> str:
    fitted = f" ({outcome['unfitted']} without a refit)" if outcome.get("unfitted") else ""
    counts = [", ".join(f"{count} {kind}" for kind, count in outcome[level].items()) for level in LEVELS]
    parity = [f"{outcome['parity'][runtime]:.0e}" for runtime in ("onnxruntime", "openvino")]
    cells = [f"`{name}`", module, str(outcome["pixels"]), counts[0] + fitted, *counts[1:], *parity]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _reason(outcome: Mapping[str, Any]) -> str:
    if "reason" in outcome:
        return str(outcome["reason"])
    if not outcome["cut_error"] <= EXACT:
        return f"all cuts together differ from the mask by {outcome['cut_error']:.0e} of the largest logit"
    runtimes: dict[str, list[str]] = defaultdict(list)
    for runtime, text in outcome["parity"].items():
        if not isinstance(text, float):
            runtimes[_first_sentence(text)].append(runtime)
    return "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in runtimes.items())


def _first_sentence(reason: str) -> str:
    """A reason without torch's description of the value, which is no prose and holds what Markdown reads as a link."""
    return reason.partition(" [Caused by")[0]


def all_names(swept: Results) -> Iterator[str]:
    """The page of all admitted names, by timm module, which the search of the site finds."""
    yield "# Models\n"
    yield (
        "Every name of timm that takes part, by module: w for hidden channels that can be cut, h for heads, b for "
        "blocks that can be dropped. `vitsearch capabilities NAME` says more, and [capabilities](../capabilities.md) "
        "what was tried.\n"
    )
    levels = levels_of_names(swept)
    for module in sorted({swept["names"][name]["module"] for name in levels}):
        names = sorted(name for name in levels if swept["names"][name]["module"] == module)
        marks = {name: "".join(level[0] for level in LEVELS if level in levels[name]) for name in names}
        yield f"## {module}\n"
        yield ", ".join(f"`{name}`{f' ({marks[name]})' if marks[name] else ''}" for name in names) + "\n"


if __name__ == "__main__":
    main()
