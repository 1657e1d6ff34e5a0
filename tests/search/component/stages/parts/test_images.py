"""Which training images the closed-form steps and static quantization look at."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.stages.parts.images import drawn_rows
from vitsearch.testing.fakes import fake_stage_config

COUNTS = st.integers(1, 60)


@given(fitted=COUNTS, quantized=COUNTS, there=COUNTS)
def test_quantization_looks_at_other_images_than_a_fit_where_there_are_enough(fitted, quantized, there):
    config = replace(fake_stage_config(), calibration_images=fitted, quantization_images=quantized)
    images = SimpleNamespace(learned=np.arange(there))
    fit_rows, other = (drawn_rows(images, wanted) for wanted in (config.structure_calibration, config.calibration))
    assert (len(fit_rows), len(other)) == (min(fitted, there), min(quantized, there))
    assert len({*fit_rows.tolist(), *other.tolist()}) == min(len(fit_rows) + len(other), there)
