"""A small run under the widest and the narrowest umask: what is private stays so, and the run does not need more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from support.real_search import APART, RealSearch, write_images

pytestmark = pytest.mark.long

SPACE = """
study: small
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 2, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: 32
  head_pruning_ratio: [0.0, 0.5]
  quantization: fp32
  batch: 1
search: {{trials: 1, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/small.db"
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "others_may"), [(0o000, 0o775), (0o077, 0o700)])
def test_a_run_keeps_private_what_is_private(tmp_path, umask, others_may):
    write_images(tmp_path / "images", APART, side=32)
    search = RealSearch.write(tmp_path, "small", SPACE, trials=1)
    before = os.umask(umask)
    try:
        search.finish()
    finally:
        os.umask(before)
    assert search.left_after_the_end() == {}
    state = tmp_path / "small.files" / "runs" / "small" / "agent"
    assert mode(state) == 0o700
    assert mode(state / "token") == 0o600
    written = [tmp_path / "small.db", *(tmp_path / "small.files").rglob("*")]
    wide = {str(path): oct(mode(path)) for path in written if not path.is_symlink() and mode(path) & ~others_may}
    assert wide == {}
