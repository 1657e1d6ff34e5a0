"""The contract of a family of backbones, as test classes to inherit from; pytest collects them.

    class TestDeiT(BackboneTestCase):
        spec = ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(64), 10)
        arguments = {"depth": 4}
        other_resolution = ImageSize.square(96)
        unsupported = (("window_size", 7),)

The modules:

    subject.py     the small model under test, and helpers
    family.py      names, sizes, weights, units, refusals
    cutting.py     a cut model equals the masked one
    shipping.py    the exported file computes what was trained
    fitting.py     closed-form refits reduce the error of a cut
    learning.py    a cut model trains, with distillation, fewer tokens, sparse weights
    precisions.py  a cut model at every precision, and trained for int8
"""

from __future__ import annotations

from vitsearch.testing.families.cutting import CuttingTests
from vitsearch.testing.families.family import FamilyTests
from vitsearch.testing.families.fitting import FittingTests
from vitsearch.testing.families.learning import LearningTests
from vitsearch.testing.families.precisions import PrecisionTests
from vitsearch.testing.families.shipping import ShippingTests

__all__ = ["BackboneTestCase", "FittingTests", "VariantTestCase"]


class VariantTestCase(FamilyTests, CuttingTests, ShippingTests):
    """The cheap part of the contract, for every further model whose attention another test case covers in full.

    Attributes:
        spec: A small model (weights `none` are enough).
        other_resolution: Another size that it accepts. The height of `spec` with this width is tried too.
        unsupported: Pairs of knob and value that it must refuse.
        arguments: Of timm's constructor, to make the model smaller still, for instance fewer blocks. Only for families
            that derive from `TimmFamily`.
        cuts_heads: Whether its heads can be pruned.
        cuts_ffn: Whether its FFNs can be pruned.
    """


class BackboneTestCase(VariantTestCase, FittingTests, LearningTests, PrecisionTests):
    """The whole contract, for one model of each attention layout of a family.

    It adds refits, training, distillation, token pruning, sparsity and every precision.
    """
