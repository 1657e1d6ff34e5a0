"""The wheels have all that a user without a clone needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

USES = """
import sys
sys.path[:0] = sys.argv[1:3]
import vitsearch
from vitsearch.space import shipped_spaces
from vitsearch.devices import descriptions
assert sys.argv[1] in vitsearch.__file__
print(" ".join(shipped_spaces.names()), len(shipped_spaces.text("jetson_nano")) > 1000)
print("jetson_nano" in descriptions.shipped())
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, f"{REPOSITORY}/evaluators", str(REPOSITORY)], check=True)
    return sorted(folder.glob("*.whl"))


@pytest.mark.long
def test_the_space_files_are_in_the_wheel(wheels, tmp_path):
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(tmp_path / wheel.name.split("-")[0])
    found = subprocess.run(
        [sys.executable, "-c", USES, str(tmp_path / "vitsearch"), str(tmp_path / "vitsearch_agent")],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout.split()
    files = sorted(path.stem for path in (REPOSITORY / "spaces").glob("*.yaml"))
    assert found == [*files, "True", "True"]
