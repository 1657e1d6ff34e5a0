"""What every family of backbones must satisfy, as a class to inherit from; pytest collects it.

class TestDeiT(BackboneTestCase):
    spec = ModelSpec("deit_tiny_patch16_224", "none", 64, 10)
    other_resolution = 96
    unsupported = (("window_size", 7),)

subject.py     the small model, and what is done with it
family.py      what the family says of its models
cutting.py     cutting is exact
fitting.py     what closed forms win back
learning.py    a cut model learns, whatever else was done to it
shipping.py    what ships computes what was trained
"""

from __future__ import annotations

from vitsearch.testing.families.cutting import CuttingTests
from vitsearch.testing.families.family import FamilyTests
from vitsearch.testing.families.fitting import FittingTests
from vitsearch.testing.families.learning import LearningTests
from vitsearch.testing.families.shipping import ShippingTests

__all__ = ["BackboneTestCase"]


class BackboneTestCase(FamilyTests, CuttingTests, FittingTests, LearningTests, ShippingTests):
    """``spec`` names a small model (weights ``none`` will do), ``other_resolution`` another size it
    takes, ``unsupported`` pairs of knob and value that it must refuse."""
