"""Which training images each closed-form step of rung 0 looks at, and what of that enters a training's key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vitsearch.core.image_size import ImageSize
from vitsearch.core.policy import POLICY
from vitsearch.core.resolve import BlockStructure, ResolvedPlan
from vitsearch_agent.base.canonical_json import digest

Purpose = Literal["fit", "quantization"]


@dataclass(frozen=True)
class Calibration:
    """The training images that a step looks at: `images` of them, drawn by `seed`.

    The seed puts all images in one order. A `fit` takes the first of them and `quantization` the last, so that
    ranges are not found on the images to which the weights were fitted, where there are enough for both.
    """

    images: int
    seed: int
    purpose: Purpose = "fit"


@dataclass(frozen=True)
class Calibrations:
    """The images of each closed-form step, None where it has nothing to do.

    `batch_norms` recalibrate them (None: they keep what they have); `refit` is the sequential refit (None:
    nothing is cut); `token_predictors` start the networks that choose tokens (None: there are none);
    `sparsity` decides which weights become zero and recalibrates the batch norms behind them (None: none do).
    """

    batch_norms: Calibration | None = None
    refit: Calibration | None = None
    token_predictors: Calibration | None = None
    sparsity: Calibration | None = None

    @classmethod
    def of(
        cls,
        resolved: ResolvedPlan,
        block_structure: BlockStructure,
        base_resolution: ImageSize,
        structure_images: Calibration,
    ) -> Calibrations:
        """`structure_images` are the images that block structures are found on.

        Batch norms are recalibrated at another resolution or window than the base's, and behind a layer of
        which weights became zero. Elsewhere the sequential refit brings every layer back to the statistics
        that the norms have.
        """
        is_like_base = resolved.resolution == base_resolution and not resolved.window_size
        policy = POLICY.rung_zero
        recalibrating = _fewer(policy.batch_norm_images, policy.least_batch_norm_images, resolved.resolution)
        least = min(structure_images.images, policy.least_refit_images)
        fitting = _fewer(structure_images.images, least, resolved.resolution)
        return cls(
            None if is_like_base else Calibration(recalibrating, structure_images.seed),
            None if resolved.keeps_all(block_structure) else Calibration(fitting, structure_images.seed),
            structure_images if resolved.token_pruning_method == "dynamicvit" else None,
            None if resolved.weight_sparsity == "none" else Calibration(recalibrating, structure_images.seed),
        )

    def digest(self, structure_images: Calibration) -> str | None:
        """The digest of the closed-form steps for the weights key, which has the seed of the recipe. Before the
        sequential refit there is a parallel one, from statistics of `structure_images`."""
        steps: dict[str, Any] = {}
        if self.refit is not None:
            steps |= {"method": "sequential", "images": self.refit.images}
            steps["statistics"] = structure_images.images
            if self.token_predictors:  # and fitted once more to the tokens that they choose
                steps |= {"token_predictors": self.token_predictors.images, "follows": True}
        if self.batch_norms is not None:  # recalibrated in the base, before it is cut
            steps["batch_norms"] = self.batch_norms.images
        if self.sparsity is not None:
            steps["sparsity"] = self.sparsity.images
        return digest(steps) if steps else None


NO_CALIBRATIONS = Calibrations()


def _fewer(images: int, least: int, resolution: ImageSize) -> int:
    """Larger images have more positions to average over, so fewer are enough."""
    share = min(1.0, (POLICY.rung_zero.full_count_pixels / resolution.side) ** 2)
    return max(least, round(images * share))
