"""Tables of models whose true effects are known, as a search makes them: full designs, and cuts that changed together.

Each cost is a product of what every choice does, times a log-normal error; some times are disturbed by a busy machine.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitsearch.core.priors import PRIORS
from vitsearch.search.forecast.calibration import CalibratedModel
from vitsearch.search.forecast.quality_model import FinishedTraining, RefittedModel
from vitsearch.study.results.effects import Effect, Observation

BACKENDS = ("executorch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8_ptq")
DEPLOYMENTS = tuple(itertools.product(BACKENDS, PRECISIONS, (1.0, 2.0)))
UNCUT, CUT = (28.0, 0.0, 0.0), (20.0, 0.5, 0.5)
NEAR_CUT = ((20.0, 0.33, 0.5), (20.0, 0.5, 0.25), (24.0, 0.5, 0.5))
CUTS = tuple(itertools.product((20.0, 24.0, 28.0), (0.0, 0.33, 0.5), (0.0, 0.25, 0.5)))
NOISES = (0.05, 0.1, 0.2, 0.3)
DISTURBED = 0.05
"""The share of the times that a busy machine made two to six times as long."""

Choice = tuple[float, float, float, str, str, float]
"""Resolution, shares of heads and FFNs that are removed, backend, precision, streams."""


@dataclass(frozen=True)
class Truth:
    """What each choice does to the logarithm of a cost."""

    power: float
    heads: float
    ffns: float
    deployments: Mapping[tuple[str, str, float], float]

    @classmethod
    def drawn(cls, rng: random.Random) -> "Truth":
        of_backend = {backend: rng.choice((-0.5, -0.2, 0.0, 0.3)) for backend in BACKENDS}
        of_int8 = {backend: rng.choice((-0.9, -0.5, 0.0)) for backend in BACKENDS}
        of_streams = {backend: rng.choice((0.0, 0.3)) for backend in BACKENDS}
        deployments = {
            (backend, precision, streams): of_backend[backend]
            + of_int8[backend] * (precision != "fp32")
            + of_streams[backend] * (streams == 2.0)
            for backend, precision, streams in DEPLOYMENTS
        }
        return cls(rng.choice((1.0, 2.0)), rng.choice((0.1, 0.3)), rng.choice((0.2, 0.5)), deployments)

    def cost(self, choice: Choice) -> float:
        resolution, heads, ffns, *deployment = choice
        backend, precision, streams = deployment
        cut = self.power * math.log(resolution / 28.0) - self.heads * heads - self.ffns * ffns
        return cut + self.deployments[backend, precision, streams]

    def of(self, effect: Effect) -> float:
        """A number with the sign of the true effect; 0 where there is none."""
        if effect.knob in ("resolution", "head_pruning_ratio", "ffn_pruning_ratio"):
            return -1.0
        streams = 2.0 if "2 streams" in effect.at else 1.0
        words = effect.at.split()
        if effect.knob == "quantization":
            ends = [(words[0], precision, streams) for precision in (effect.start, effect.to)]
        elif effect.knob == "backend":
            ends = [(backend, words[0], streams) for backend in (effect.start, effect.to)]
        else:
            ends = [(words[0], words[1], float(count)) for count in (effect.start, effect.to)]
        return round(self.deployments[ends[1]] - self.deployments[ends[0]], 9)


def balanced(rng: random.Random) -> list[Choice]:
    """Many models that were drawn at random from the whole space."""
    return rng.sample([(*cut, *deployment) for cut in CUTS for deployment in DEPLOYMENTS], 100)


def scattered(rng: random.Random) -> list[Choice]:
    """A few more models than there are effects."""
    return rng.sample([(*cut, *deployment) for cut in CUTS for deployment in DEPLOYMENTS], 30)


def collinear(rng: random.Random) -> list[Choice]:
    """The models uncut and fully cut in nearly all deployments, and one to four others."""
    whole = [(*UNCUT, *deployment) for deployment in DEPLOYMENTS if rng.random() < 0.8]
    whole += [(*CUT, *deployment) for deployment in DEPLOYMENTS if rng.random() < 0.95]
    others = [(*rng.choice(NEAR_CUT), *rng.choice(DEPLOYMENTS)) for _ in range(rng.randint(1, 4))]
    return list(dict.fromkeys([*whole, *others]))


def observed(
    truth: Truth,
    choices: Sequence[Choice],
    plain: Mapping[str, str | float | None],
    rng: random.Random,
    disturbed: float,
) -> list[Observation]:
    """One model for each choice, all with the same noise."""
    noise, observations = rng.choice(NOISES), []
    for choice in choices:
        resolution, heads, ffns, backend, precision, streams = choice
        cut = {"resolution": resolution, "head_pruning_ratio": heads, "ffn_pruning_ratio": ffns}
        knobs = {**plain, **cut, "backend": backend, "quantization": precision, "streams": streams}
        error = rng.gauss(0.0, noise)
        if rng.random() < disturbed:
            error += math.log(rng.uniform(2.0, 6.0))
        observations.append(Observation(knobs, truth.cost(choice) + error))
    return observations


@dataclass(frozen=True)
class PredictedStudy:
    """Accuracies of one backbone of which few models were trained and the others are predicted. The line from rung 0
    to the accuracy is drawn from the prior, and every prediction comes from the model that a search fits."""

    observed: list[Observation]
    slope: float
    lost: float

    @classmethod
    def drawn(cls, rng: random.Random, plain: Mapping[str, str | float | None], trained: int) -> "PredictedStudy":
        prior = PRIORS["accuracy"]
        slope, lost = rng.gauss(prior.slope, prior.slope_error), rng.gauss(prior.lost, prior.lost_error)
        offset = rng.gauss(0.0, prior.offset_error)
        cuts = rng.sample(CUTS, len(CUTS))
        gains = [
            slope * root_of_divergence(cut) - lost * lost_at_rung_0(cut) + offset + rng.gauss(0.0, prior.noise)
            for cut in cuts
        ]
        starts = [RefittedModel("vit", root_of_divergence(cut) ** 2, lost_at_rung_0(cut), 0.0) for cut in cuts]
        finished = [FinishedTraining(start, -gain) for start, gain in zip(starts[:trained], gains, strict=False)]
        model = CalibratedModel.fit(finished, prior, ["vit"])
        observed = []
        for number, (cut, start, gain) in enumerate(zip(cuts, starts, gains, strict=True)):
            resolution, heads, ffns = cut
            knobs = {**plain, "resolution": resolution, "head_pruning_ratio": heads, "ffn_pruning_ratio": ffns}
            forecast = model.predict(start)
            if number < trained:
                observed.append(Observation(knobs, 0.9 + gain))
            else:
                observed.append(Observation(knobs, 0.9 + forecast.mean, forecast.own_deviation, forecast.shared))
        return cls(observed, slope, lost)

    def of(self, effect: Effect) -> float:
        """The true effect."""
        start, to = float(effect.start), float(effect.to)
        cuts = [
            (
                value if effect.knob == "resolution" else 28.0,
                value if effect.knob == "head_pruning_ratio" else 0.0,
                value if effect.knob == "ffn_pruning_ratio" else 0.0,
            )
            for value in (start, to)
        ]
        roots, lost = map(root_of_divergence, cuts), map(lost_at_rung_0, cuts)
        (root, root_of_cut), (before, after) = roots, lost
        return self.slope * (root_of_cut - root) - self.lost * (after - before)


def root_of_divergence(cut: tuple[float, float, float]) -> float:
    """Of a cut model from the unpruned one."""
    resolution, heads, ffns = cut
    return 0.2 + 0.3 * math.log(28.0 / resolution) + 0.4 * heads + 0.6 * ffns


def lost_at_rung_0(cut: tuple[float, float, float]) -> float:
    """The accuracy that a cut model has lost without training."""
    resolution, heads, ffns = cut
    return 0.1 * math.log(28.0 / resolution) + 0.05 * heads + 0.2 * ffns
