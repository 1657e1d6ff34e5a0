"""Write the device agent as one file that runs on any Python from 3.6 on: `python3 vitsearch-agent.pyz serve ...`.

python tools/make_agent_pyz.py vitsearch-agent.pyz

The same sources give the same bytes: times and permissions are fixed, and nothing is compiled.
"""

import argparse
import stat
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "evaluators" / "vitsearch_evaluators"
SHEBANG = b"#!/usr/bin/env python3\n"
# The __main__ of zipapp would lose the exit code.
MAIN = "import sys\n\nfrom vitsearch_evaluators.cli.app import main\n\nsys.exit(main())\n"
_WHEN = (2020, 1, 1, 0, 0, 0)


def build(target: Path, package: Path = PACKAGE) -> None:
    """Write the executable archive."""
    with target.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "__main__.py", MAIN.encode())
            for source in sorted(package.rglob("*.py")):
                _add(archive, source.relative_to(package.parent).as_posix(), source.read_bytes())
    target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path)
    build(parser.parse_args().target)
