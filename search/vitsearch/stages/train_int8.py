"""A training with the rounding of static int8 in place, which follows the last rung."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.core.stage import Stage
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.train import Trained, TrainJob


@dataclass(frozen=True)
class QatJob(TrainJob):
    """From the weights of rung `start`; ranges start as seen on the `calibration` images. The start is what
    post-training quantization gives."""

    stage = Stage.TRAIN_INT8
    calibration: Calibration

    def work(self) -> Trained:
        from vitsearch.compress.quantization import fake_quant
        from vitsearch.stages.parts.exporting import float_layers
        from vitsearch.stages.parts.images import drawn_batches
        from vitsearch.stages.parts.judging import judged
        from vitsearch.stages.parts.models import compressed

        model = compressed(self.spec, self.workspace, self.checkpoint_sha256)
        images = drawn_batches(self.workspace, self.calibration, self.spec.source.view)
        fake_quant.prepare(model, images, float_layers(model))
        return self._tuned(model, judged(model, self, self.reference))
