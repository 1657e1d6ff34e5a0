"""How both packages start Python: the folder in which somebody works is not code.

`python -m` and `python -c` look for every module in the present folder first, so that a `json.py` which lies there runs
in the place of the library's. Python 3.11 has `-P` against it, but an agent starts others too. So each process is
started with a line of code that removes this folder before it imports anything. `PYTHONPATH` is kept: it is the user's
own word.
"""

import contextlib
import os
from typing import Iterator, List

SAFE_PATH = "PYTHONSAFEPATH"
"""The variable with which Python from 3.11 on, and each Python that a library starts, does the same as `-P`."""
_WITHOUT_FOLDER = "import sys; sys.path[:] = [path for path in sys.path if path]; "
_MODULE = _WITHOUT_FOLDER + "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def run_module(python: str, module: str, *arguments: str) -> List[str]:
    """Return the command that runs a module as `python -m module arguments` does, but for the present folder."""
    return [python, "-c", _MODULE, module, *arguments]


def run_code(python: str, code: str, *arguments: str) -> List[str]:
    """Return the command that runs lines of code as `python -c code arguments` does, but for the present folder."""
    return [python, "-c", _WITHOUT_FOLDER + code, *arguments]


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Let every Python that a library starts in the block look for no module in the present folder (from 3.11 on)."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before
