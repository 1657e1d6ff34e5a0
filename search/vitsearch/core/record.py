"""What became of a trial: the record that is stored with it, from which everything else is derived.

    outcome        state in Optuna                            counts as trained   later
    confirmed      COMPLETE, values, constraints              if rung > 0
    duplicate      PRUNED: the other trial still runs         no                  capped in a row
    (duplicate_of) as that trial, values looked up            no                  capped in a row
    infeasible     PRUNED, constraints, reason                no                  again when the limits change
    dominated      PRUNED, reason                             no                  again when the cap changes
    not_promoted   PRUNED, proxy score, reason                no                  resumed when the front moves
    does_not_fit   PRUNED, constraint `fits`                  no                  the device is asked again
    off_space      PRUNED, constraint `in_space`              no                  the file dropped a choice
    failed         FAIL with stage, kind, message             no                  only with --retry-failed

Transient faults (network, reboot, a lost node) and a killed driver report nothing to Optuna: the trial
stays open and is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from vitsearch.core.figures import NO_METRICS, Estimate, Estimates, Metrics, means
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan
from vitsearch.core.precisions import TRAINED

Outcome = Literal[
    "confirmed", "duplicate", "infeasible", "dominated", "not_promoted", "does_not_fit", "off_space", "failed"
]
PRUNED: frozenset[Outcome] = frozenset(
    {"duplicate", "infeasible", "dominated", "not_promoted", "does_not_fit", "off_space"}
)


@dataclass(frozen=True)
class Keys:
    """The ledger keys of a trial's results."""

    weights_key: str
    """Of the training."""
    graph_key: str
    """Of the measurements."""
    artifact_key: str | None
    """Of the exported file."""
    device_id: str
    """The device that measured it."""


@dataclass(frozen=True)
class ProxyFigure:
    """What rung 0 says of one metric of the task."""

    value: float
    """Of the refitted model without training, on the holdout."""
    lost: float
    """Lost against the unpruned model, as a share of the metric's span."""
    predicted: float
    """Predicted after the fine-tune."""
    deviation: float
    """One standard deviation of the prediction."""
    error: float = 0.0
    """One standard deviation of `lost`, from the number of images."""
    shared: tuple[float, ...] = ()
    """What of `deviation` the predictions of a study share: how far this one moves with each of a number of
    independent, standard normal errors."""

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.predicted, self.deviation, self.shared)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProxyFigure:
        return cls(**{**value, "shared": tuple(value["shared"])})


@dataclass(frozen=True)
class ProxyScore:
    """Rung 0: what the refitted, untrained model shows, and what that predicts."""

    divergence: float
    """From the unpruned model, in the unit of the task (classification: nats)."""
    is_near: bool
    """Whether a fine-tune would move nothing, so near it is to the unpruned model."""
    figures: Mapping[str, ProxyFigure]
    """By metric, those first that are objectives."""

    @property
    def predicted(self) -> Estimates:
        """The metrics that are predicted after the fine-tune."""
        return {name: figure.estimate for name, figure in self.figures.items()}

    @property
    def text(self) -> str:
        """The predicted metrics as they are shown; a single one without its name."""
        if len(self.figures) == 1:
            return next(iter(self.predicted.values())).text
        return ", ".join(f"{name} {estimate.text}" for name, estimate in self.predicted.items())

    def to_json(self) -> dict[str, Any]:
        figures = {name: {**vars(figure), "shared": list(figure.shared)} for name, figure in self.figures.items()}
        return {"divergence": self.divergence, "is_near": self.is_near, "figures": figures}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProxyScore:
        figures = {name: ProxyFigure.from_json(figure) for name, figure in value["figures"].items()}
        return cls(value["divergence"], value["is_near"], figures)


def trainings(records: Mapping[int, Record]) -> dict[str, int]:
    """The trainings of a study, which `search.trials` counts: the key of each and the first trial that has it. One
    training serves all deployments of its weights."""
    first: dict[str, int] = {}
    for number, record in sorted(records.items()):
        if record.was_trained and record.keys is not None:
            first.setdefault(record.keys.weights_key, number)
    return first


@dataclass(frozen=True)
class RunningTrial:
    """A trial between its screening measurement and its record. `metrics` are those of the screening
    measurement, `qualities` the best estimates so far of the metrics of the task: predicted at rung 0, then those of
    the last rung, which alone are `rung_values`."""

    number: int
    plan: Plan
    keys: Keys
    metrics: Metrics
    proxy: ProxyScore | None = None
    rung: int = 0
    qualities: Estimates = field(default_factory=dict)
    rung_values: Mapping[str, float] | None = None

    @property
    def needs_no_training(self) -> bool:
        """Whether its refitted weights are so near to their base that a fine-tune would move nothing."""
        is_near = self.proxy is not None and self.proxy.is_near
        return is_near and self.plan.deployment.precision not in TRAINED and len(self.plan.recipe.rungs) > 1

    def with_proxy(self, proxy: ProxyScore) -> RunningTrial:
        return replace(self, proxy=proxy, qualities=proxy.predicted)

    def after_rung(self, rung: int, evaluated: Estimates) -> RunningTrial:
        """After a rung with these qualities. One that is no better than was predicted of the last rung changes nothing:
        a training loses some at its begin."""
        better = {
            name: estimate
            for name, estimate in evaluated.items()
            if name not in self.qualities or split(name)[0].gain(estimate.mean, self.qualities[name].mean) > 0.0
        }
        return replace(self, rung=rung, qualities={**self.qualities, **better}, rung_values=means(evaluated))

    def interval_decides(self, goes_on: Callable[[RunningTrial], bool]) -> bool:
        """Whether the trial goes on at one end of the intervals of its costs and not at the other."""
        better, worse = (replace(self, metrics=self.metrics.at_end(better)) for better in (True, False))
        return goes_on(better) != goes_on(worse)

    def to_record(self, outcome: Outcome, reason: str, constraints: Mapping[str, float]) -> Record:
        """The record of a trial that stops before it is confirmed."""
        return Record(
            outcome,
            self.plan,
            reason,
            self.keys,
            self.metrics,
            dict(constraints),
            proxy=self.proxy,
            rung=self.rung,
        )


@dataclass(frozen=True)
class Record:
    """The result of one trial. `metrics` are those of its last measurement: of the screening one when it was
    never trained."""

    outcome: Outcome
    plan: Plan
    reason: str = ""
    keys: Keys | None = None
    metrics: Metrics = NO_METRICS
    constraints: dict[str, float] = field(default_factory=dict)
    proxy: ProxyScore | None = None
    rung: int = 0
    duplicate_of: int | None = None
    failure: dict[str, str] | None = None

    @property
    def feasible(self) -> bool:
        return all(value <= 0.0 for value in self.constraints.values())

    @property
    def shown_outcome(self) -> Outcome:
        """A trial that repeats another one has its outcome and values, and is shown as a duplicate."""
        return "duplicate" if self.duplicate_of is not None else self.outcome

    @property
    def is_confirmed(self) -> bool:
        """A model that could be shipped. A duplicate only shows the values of the other trial."""
        return self.outcome == "confirmed" and self.duplicate_of is None

    @property
    def was_trained(self) -> bool:
        """Whether gradient steps were taken for it, or would have been if the recipe had any."""
        return self.is_confirmed and (self.rung > 0 or max(self.plan.recipe.rungs, default=0) == 0)

    def to_json(self) -> dict[str, Any]:
        plain = {
            "outcome": self.outcome,
            "reason": self.reason,
            "constraints": self.constraints,
            "rung": self.rung,
            "duplicate_of": self.duplicate_of,
            "failure": self.failure,
        }
        return plain | {
            "plan": self.plan.to_json(),
            "keys": asdict(self.keys) if self.keys else None,
            "metrics": self.metrics.to_json(),
            "proxy": self.proxy.to_json() if self.proxy else None,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        return cls(
            **value
            | {
                "plan": Plan.from_json(value["plan"]),
                "keys": Keys(**value["keys"]) if value["keys"] else None,
                "metrics": Metrics.from_json(value["metrics"]),
                "proxy": ProxyScore.from_json(value["proxy"]) if value["proxy"] else None,
            }
        )


@dataclass(frozen=True)
class Shipped:
    """What shipping has found out about a model.

    Attributes:
        split: `test`; `validation` for data without test images.
        sha256: The digest of that split.
        n: Its images.
        figures: What the task makes of the outputs for them.
        tally: What else it keeps of them.
        images_sha256: The file of some of them, those of the bundle: uint8 (images, height, width, channels).
        images_bytes: The size of that file.
        on_images: What the task makes of the outputs for those, from what the bundle's own preprocessing makes of them.
        outputs_sha256: The file of these outputs: float32 (images, ...), or of a segmentation the class of each
            position: uint8 (images, height, width).
        labels: The classes of those images; None for data without labels, and with masks.
        masks_sha256: The file of their masks: uint8 (images, height, width); None for other tasks than segmentation.
        reference_sha256: The file of what the reference of the study gives for them; None for a task without one.
        licences: Of weights and data; None where they are unknown.
        batch: How many images the model took at once.
    """

    split: str
    sha256: str
    n: int
    figures: Metrics
    tally: Any
    images_sha256: str
    images_bytes: int
    on_images: Metrics
    outputs_sha256: str
    labels: tuple[int, ...] | None
    masks_sha256: str | None
    reference_sha256: str | None
    licences: dict[str, str | None]
    batch: int
