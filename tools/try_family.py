"""Run the conformance test of a family on any of its variants, with random weights, at their smallest resolutions.

    PYTHONPATH=search:evaluators python tools/try_family.py levit_192 swin_small_patch4_window7_224
    PYTHONPATH=search:evaluators python tools/try_family.py --list levit

vitsearch supports whole families, not a list of models: this checks variants that no test names. Further arguments,
after `--`, go to pytest.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from itertools import islice
from pathlib import Path

import pytest

from vitsearch import backbones
from vitsearch.backbones import FAMILIES
from vitsearch.core.image_size import ImageSize

SIZES = range(32, 1025, 4)
HEAD = """
from vitsearch.core.image_size import ImageSize
from vitsearch.models.backbone import ModelSpec
from vitsearch.testing.families import BackboneTestCase
"""
CASE = """

class Test_{title}(BackboneTestCase):
    spec = ModelSpec("{name}", "none", ImageSize.of_text("{size}"), 10)
    other_resolution = ImageSize.of_text("{other}")
    unsupported = ()
    cuts_heads = {cuts_heads}
    cuts_ffn = {cuts_ffn}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", metavar="FAMILY", help="print the variants of a family instead")
    parser.add_argument("names", nargs="*")
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    asked = parser.parse_args(own)
    if asked.list:
        print("\n".join(FAMILIES.get(asked.list)().variants()))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_variants.py"
        path.write_text(HEAD + "".join(map(case, asked.names)))
        rest = sys.argv[2 + len(own) :]
        return pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", folder, str(path), *rest])


def case(name: str) -> str:
    fits = (size for size in map(ImageSize.square, SIZES) if backbones.supports(name, "resolution", size) is None)
    size, *others = islice(fits, 2)
    other = others[0] if others else size
    cuts_heads = backbones.supports(name, "head_pruning_ratio", 0.5) is None
    cuts_ffn = backbones.supports(name, "ffn_pruning_ratio", 0.5) is None
    title = re.sub(r"\W", "_", name)
    return CASE.format(title=title, name=name, size=size, other=other, cuts_heads=cuts_heads, cuts_ffn=cuts_ffn)


if __name__ == "__main__":
    raise SystemExit(main())
