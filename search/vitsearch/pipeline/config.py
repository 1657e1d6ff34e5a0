"""What the stages need from a space file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vitsearch.core.image_size import ImageSize
from vitsearch.core.keys import DataIdentity
from vitsearch.core.plan import Plan, QuantizationAware, Recipe
from vitsearch.core.preprocessing import OWN, ModelView, Preprocessing, PreprocessingKeys
from vitsearch.devices.protocols import Phases
from vitsearch.stages import Source
from vitsearch.stages.calibration import Calibration
from vitsearch.tasks import CLASSIFICATION, Task


@dataclass(frozen=True)
class Teacher:
    """The model that a space file names to distil from, and its own training where its classifier is new."""

    backbone: str
    weights: str
    recipe: Recipe
    preprocessing: PreprocessingKeys = OWN


@dataclass(frozen=True)
class StageConfig:
    """The settings of all stages, from a space file.

    `teacher` None: each backbone is distilled from its own unpruned base. `starting_digest` gives the digest of
    a backbone's starting weights, `preprocessing` that of a backbone with weights, as far as the keys of the space
    file leave it to them. `reference` is the model whose outputs all others are to give, for a task that has one.
    `confirms`: the objectives and limits need the confirmation measurement of every model; otherwise its screening
    measurement decides until the end. `device_images` says by the name of a device on how many images it evaluates the
    models of the front, `fleet_weights` are the weights of several devices, None for the worst case.
    `has_test`: there are images that the search never uses, which judge what is shipped."""

    data: DataIdentity
    base_recipe: Recipe
    teacher: Teacher | None
    base_resolution: Callable[[str], ImageSize]
    starting_digest: Callable[[Source], str]
    preprocessing: Callable[[str, str, PreprocessingKeys], Preprocessing]
    calibration_images: int
    quantization_images: int
    seed: int
    qat: QuantizationAware = QuantizationAware()
    phases: Phases = Phases()
    device_images: Mapping[str, int] = field(default_factory=dict)
    task: Task = CLASSIFICATION
    reference: Teacher | None = None
    class_names: tuple[str, ...] = ()
    is_labelled: bool = True
    confirms: bool = False
    fleet_weights: Mapping[str, float] | None = None
    has_test: bool = False

    @property
    def judged_by(self) -> str:
        """The digest of the images and of what outputs are judged by."""
        return self.data.judged_by

    def base_view(self, model: Plan | Teacher) -> ModelView:
        """What the unpruned base of a plan, or a teacher, sees of an image."""
        preprocessing = self.preprocessing(model.backbone, model.weights, model.preprocessing)
        return ModelView(self.base_resolution(model.backbone), preprocessing)

    def view(self, plan: Plan) -> ModelView:
        """What the model of `plan` sees of an image."""
        return replace(self.base_view(plan), resolution=plan.resolution)

    @property
    def calibration(self) -> Calibration:
        """The images of static quantization."""
        return Calibration(self.quantization_images, self.seed, "quantization")

    @property
    def structure_calibration(self) -> Calibration:
        """The images of importance scores, statistics and closed-form fits."""
        return Calibration(self.calibration_images, self.seed)
