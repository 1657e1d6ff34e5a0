"""Tests that need int8 as it is defined."""

import pytest

from vitsearch.export.processor import saturates_int8
from vitsearch.testing.families.precisions import SATURATES

exact_int8 = pytest.mark.skipif(saturates_int8(), reason=SATURATES)
