"""A program in place of the Python of a converter's environment: it records how it was called."""

import json
import sys
from pathlib import Path

from vitsearch.export import converters

WRITES = "Path(call[-1] if call[2] == 'convert' else call[4]).write_bytes(b'TFL3' + call[2].encode())"
FAILS = "print('warming up', file=sys.stderr); sys.exit('ValueError: no lowering for aten.foo')"
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "import time; time.sleep(600)"
IDLES = "pass"

_PROGRAM = """#!{python}
import json, sys
from pathlib import Path
call = sys.argv[1:]  # -I SCRIPT TASK ...
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + chr(10))
{body}
"""


class FakeConverter:
    """A converter's environment in `root`, whose Python does what `body` says."""

    def __init__(self, root: Path, body: str = WRITES, name: str = "litert") -> None:
        self.folder, self.log = root / name, root / "calls.jsonl"
        self.python = self.folder / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(_PROGRAM.format(python=sys.executable, log=str(self.log), body=body))
        self.python.chmod(0o755)

    def mark_installed(self, requirements: tuple[str, ...] | None = None) -> "FakeConverter":
        text = json.dumps(requirements or converters.requirements_of(self.folder.name))
        (self.folder / converters.INSTALLED).write_text(text)
        return self

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
