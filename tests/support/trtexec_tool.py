"""A fake trtexec as a program on this machine (fake_trtexec.py)."""

import json
import os
import shutil
import sys

from support import SUPPORT
from vitsearch_agent.wire.protocol import SCREEN

FP32 = {"precision": "fp32"}


def prepare(runtime, path, precision="fp32"):
    runtime.prepare(path, {"precision": precision}, SCREEN)


class FakeTool:
    """A fake trtexec of some version that records its calls."""

    def __init__(self, folder):
        folder.mkdir()
        self._folder = folder
        self.path = str(folder / "trtexec")
        shutil.copy(os.path.join(SUPPORT, "fake_trtexec.py"), str(folder / "fake.py"))
        (folder / "trtexec").write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
        (folder / "trtexec").chmod(0o755)
        self.install("v8201")

    def install(self, banner, **special):
        (self._folder / "tensorrt.json").write_text(json.dumps(dict(special, banner=banner)))

    def calls(self, flag):
        log = self._folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if flag in call]
