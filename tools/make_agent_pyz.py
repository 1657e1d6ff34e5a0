"""Write the device agent as one file that runs on any Python from 3.6 on: `python3 vitsearch-agent.pyz serve ...`.

python tools/make_agent_pyz.py vitsearch-agent.pyz
"""

import argparse
import sys
from pathlib import Path

# Works on a fresh clone, where nothing is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "evaluators"))

from vitsearch_agent.base.single_file import write


def build(target: Path) -> None:
    """Write the executable archive."""
    write(str(target))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path)
    build(parser.parse_args().target)
