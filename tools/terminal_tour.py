"""Write docs/terminal.md: what each command shows of a real study in a terminal of 80 and of 120 columns.

Usage: python tools/terminal_tour.py FOLDER STUDY PAGE

FOLDER is where the study was searched (it holds studies/), and the commands run there, in tmux. The name of this
machine, its folders and ports do not reach the page.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

WIDTHS = (80, 120)
LONGEST_S = 180.0
MOST_LINES = 70
"""Lines of one command that are shown."""
COMMANDS = (
    "doctor",
    "devices list",
    "devices status nano",
    "studies",
    "check {space} --no-costs",
    "capabilities test_vit4 --try --resolution 32 --backend onnxruntime",
    "status {study}",
    "front {study}",
    "front {study} --all",
    "show {study} knee",
    "show {study} knee --per-class",
    "compare {study} knee baseline",
    "explain {study}",
    "ship {study} baseline --to bundle-{width}",
    "verify bundle-{width} --no-measure",
)
HEAD = """\
# What each command shows

Captured in tmux from a search of `{space}`, in terminals of 80 and of 120 columns. No value is cut:
[narrow terminals](command_line.md#narrow-terminals). `python tools/terminal_tour.py` makes this page.
"""


def main(folder: Path, study: str, page: Path) -> None:
    names = {"study": study, "space": f"{study}.yaml"}
    parts = [HEAD.format(**names)]
    for command in COMMANDS:
        by_width = {width: shlex.split(command.format(**names, width=width)) for width in WIDTHS}
        at_once = 1 if command.startswith("ship") else len(WIDTHS)  # one run of a study at a time
        with ThreadPoolExecutor(at_once) as pool:
            shown = list(pool.map(partial(captured, folder), by_width.values(), by_width))
        parts.append(f"\n## vitsearch {command.format(**names, width=WIDTHS[0])}\n")
        for width, text in zip(by_width, shown, strict=True):
            parts.append(f"\n{width} columns:\n\n```text\n{text}\n```\n")
        page.write_text("".join(parts))
        print(f"vitsearch {command}", flush=True)


def captured(folder: Path, words: list[str], width: int) -> str:
    """What tmux shows of a command in `folder`."""
    with tempfile.TemporaryDirectory(prefix="tour-") as scratch:
        ended, server = Path(scratch, "ended"), Path(scratch, "tmux")

        def tmux(*arguments: str) -> str:
            asked = ["tmux", "-S", str(server), "-f", os.devnull, *arguments]
            return subprocess.run(asked, check=True, capture_output=True, text=True).stdout

        command = shlex.join([sys.executable, "-m", "vitsearch", *words])
        kept = (
            f"cd {shlex.quote(str(folder))} && {command}; echo done > {shlex.quote(str(ended))}; sleep {LONGEST_S:.0f}"
        )
        tmux("new-session", "-d", "-x", str(width), "-y", "200", "-s", "tour", kept)
        try:
            until = time.monotonic() + LONGEST_S
            while not ended.exists() and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(0.2)  # the last lines are on their way to the screen
            text = tmux("capture-pane", "-p", "-t", "tour")
        finally:
            tmux("kill-server")
    return "\n".join(_plain(text, folder))


def _plain(text: str, folder: Path) -> Iterator[str]:
    """Lines without what is of this machine alone."""
    known = {str(folder): "studies-of-ana", sys.prefix: "/opt/vitsearch", str(Path.home()): "/home/ada"}
    for place, name in known.items():
        text = text.replace(place, name)
    text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "workstation", text)
    lines = text.rstrip().splitlines()
    for line in lines[:MOST_LINES]:
        yield re.sub(r"Linux-\S+", "Linux", line).rstrip()
    if len(lines) > MOST_LINES:
        yield f"... {len(lines) - MOST_LINES} more lines"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3]))
