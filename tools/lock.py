"""Lock every package of the environments that this repository makes, those that others bring included: `make lock`.

    constraints/vitsearch.txt    what `make setup`, the tests, `make lint`, `make docs` and `make bench` install
    constraints/NAME.txt         what `vitsearch install-converter NAME` does for the tests

uv resolves them for every Python and system. A version stays until `make lock ARGS=--upgrade`. `--check` says what
this environment has in other versions. torch and torchvision are ranges (`[tool.uv]` in pyproject.toml), because any
build of them (CPU, CUDA) will do, and the packages that come with a build are left to it. Users of vitsearch get the
ranges of pyproject.toml.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / name) for name in ("search", "evaluators")]

from vitsearch.core.targets import converters  # noqa: E402 - of this clone

FOLDER = REPOSITORY / "constraints"
UV = str(Path(sys.executable).with_name("uv"))
OURS = ("vitsearch", "vitsearch-agent")
RANGES = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
OF_A_BUILD = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*|tensorrt.*)$")
PINNED = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; .+)?")
GROUPS = {"pyproject.toml": ("install", "dev", "docs"), "evaluators/pyproject.toml": ("test", "runtimes")}


def lock(name: str, sources: Sequence[str], options: Sequence[str], requirements: Sequence[str] = ()) -> None:
    """Write the file of an environment.

    Args:
        name: Of the file, without its suffix.
        sources: What uv reads: files, groups, or `-` for its standard input.
        options: More options of uv.
        requirements: What it reads on standard input.
    """
    path = FOLDER / f"{name}.txt"
    command = [UV, "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--no-annotate", "--no-header"]
    command += [*options, f"--output-file={path}", *sources]
    subprocess.run(command, cwd=REPOSITORY, check=True, text=True, input="\n".join(requirements))
    pinned = [line for line in path.read_text().splitlines() if (match := PINNED.match(line)) and kept(match["name"])]
    path.write_text("\n".join(["# Made by `make lock`: see tools/lock.py.", *RANGES, *pinned, ""]))


def kept(package: str) -> bool:
    return package not in OURS and not OF_A_BUILD.match(package)


def normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def unlocked() -> Iterator[str]:
    """Yield the packages of this environment that `constraints/vitsearch.txt` has not, or in other versions."""
    locked: dict[str, set[str]] = {}
    for match in filter(None, map(PINNED.match, (FOLDER / "vitsearch.txt").read_text().splitlines())):
        locked.setdefault(match["name"], set()).add(match["version"])
    for package in sorted(distributions(), key=lambda package: package.name.lower()):
        name = normalized(package.name)
        if kept(name) and package.version not in locked.get(name, ()):
            yield f"{name} {package.version} (locked: {', '.join(sorted(locked.get(name, ()))) or 'no version'})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="say what this environment has in other versions")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    if arguments.check:
        differing = list(unlocked())
        print("\n".join(differing) or "every package is locked")
        return 1 if differing else 0
    upgrade = ["--upgrade"] if arguments.upgrade else []
    groups = [f"--group={file}:{name}" for file, names in GROUPS.items() for name in names]
    lock("vitsearch", list(GROUPS), ["--all-extras", *groups, *upgrade])
    for name, converter in converters().items():
        lock(name, ["-"], upgrade, converter.requirements)
    return 0


if __name__ == "__main__":
    sys.exit(main())
