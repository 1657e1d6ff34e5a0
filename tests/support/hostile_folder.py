"""A folder whose modules have the names of all that Python, the libraries and the product import.

Each leaves a mark where it runs: its name and the command of its process.
"""

import os
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

MODULE = """\
import sys
with open({marks!r}, "a") as stream:
    stream.write({name!r} + " in " + " ".join(sys.argv) + "\\n")
raise ImportError({name!r} + " of a folder was imported")
"""
PLUGINS = ("vitsearch.backbones", "vitsearch.observers", "vitsearch.targets", "vitsearch.tasks")
AGENT_PLUGINS = ("vitsearch_agent.runtimes", "vitsearch_agent.power")


class HostileFolder:
    """Write the modules into a folder that is empty; `marks` says which of them ran, and where."""

    def __init__(self, folder: Path, marks: Path) -> None:
        self.folder, self._marks = folder, marks
        names = {name for name in (*sys.stdlib_module_names, *packages_distributions()) if name.isidentifier()}
        for name in (*names, "sitecustomize", "usercustomize", "vitsearch", "vitsearch_agent", "plugin"):
            (folder / f"{name}.py").write_text(MODULE.format(marks=os.fspath(marks), name=name))
        package = folder / "plugin-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
        lines = [f"[{group}]\nplugin = plugin:Plugin\n" for group in (*PLUGINS, *AGENT_PLUGINS)]
        (package / "entry_points.txt").write_text("".join(lines))

    def marks(self) -> list[str]:
        """Which modules ran, with the command of each process."""
        return self._marks.read_text().splitlines() if self._marks.exists() else []
