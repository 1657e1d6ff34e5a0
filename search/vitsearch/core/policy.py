"""The constants that decide a search, in one frozen value: what is trained, when a search ends, what counts as equal.

The driver and the scheduler of a run take theirs from its `Session`, so that a test or a benchmark can search by
other ones. All else takes `POLICY`, because everybody who reads a study has to see the same figures. Each
constant has its reason beside it and, where there is one, the benchmark in which a change of it shows.
`docs/policy.md` is made from this module (`vitsearch.cli.policy_page`).

Elsewhere are what a person sets in the space file, the waits of a run (polls, timeouts), the priors of the models that
predict (`search/forecast`, `search/retarget/transfer_model.py`, `study/auto_sampler`), and how the agent
measures.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

T = TypeVar("T")
WHY, BENCHMARK = "why", "benchmark"


def rule(value: T, why: str, benchmark: str = "") -> T:
    """A constant of the policy with its reason, and the benchmark in which a change of it shows (empty: in none)."""
    return field(default=value, metadata={WHY: why, BENCHMARK: benchmark})


@dataclass(frozen=True)
class EqualityPolicy:
    """What counts as equal: accuracies as shares of images, costs relative to the cost. Deviations are standard
    deviations."""

    accuracy_of_models: float = rule(
        0.002,
        "Deviation between models that are equally good: this part of a predicted error does not count as a possible"
        " gain, neither to train a plan nor to propose a similar one.",
        "benchmarks/samplers.py",
    )
    accuracy_of_trainings: float = rule(
        0.003, "Deviation between two trainings of one plan, judged on the same images.", "benchmarks/predictions.py"
    )
    accuracy_of_refitted: float = rule(
        0.0016,
        "Deviation between a refitted model that is so near to its base that it is not trained, and the base.",
        "benchmarks/own_table_search.py",
    )
    accuracy_of_deployments: float = rule(
        0.005, "Deviation between the accuracies of one model in two runtimes or precisions."
    )
    accuracy_of_rungs: float = rule(
        0.007,
        "Deviation between the accuracy on the holdout after a rung and that on the validation images.",
        "benchmarks/ladders.py",
    )
    accuracy_of_files: float = rule(
        0.01, "What faster files may lose because their convolutions are quantized too.", "benchmarks/quantization.py"
    )
    accuracy_of_rounding: float = rule(
        0.01,
        "The loss of the unpruned model in int8 below which training for int8 has nothing to win back: int8_qat is "
        "not asked for.",
        "benchmarks/quantization.py",
    )
    cost_of_models: float = rule(
        0.05,
        "Standard deviation between measurements of one model: not a reason to propose a similar plan. Half of the"
        " proposals of a quickstart were equal to measured models before.",
        "benchmarks/samplers.py",
    )
    cost_without_interval: float = rule(0.03, "Standard deviation of a cost that has no interval.")
    cost_of_deployments: float = rule(
        0.02,
        "How far the cost of a cut model in another deployment may lie from the ratio that the unpruned models show.",
    )
    cost_settled: float = rule(
        0.04, "Half of a 95 % interval at which a time that is shown in the end is settled.", "benchmarks/noise.py"
    )


@dataclass(frozen=True)
class TrainingPolicy:
    """Which plan is trained."""

    least_gain: float = rule(
        0.001,
        "What a plan must be expected to add to be worth asking for, as a share of the hypervolume, where a file does"
        " not say so (`search.least_gain`). What adds less is not asked for in another deployment, and where it adds"
        " less even at the upper end of the 90 % interval of its forecast, not trained, or trained no further.",
        "benchmarks/ladders.py",
    )
    tests_of_backbone: int = rule(
        3,
        "Trainings of a backbone before their results may rule out that it reaches the front, and a search may end."
        " With an uninformative rung 0, one bad result ended the search before.",
        "benchmarks/own_table_search.py",
    )


@dataclass(frozen=True)
class EndingPolicy:
    """When a search ends before its budget is spent."""

    low_proposals: int = rule(
        3,
        "Proposals of `auto` in a row that it expects to add less than `least_gain`. Nothing is asked then, and"
        " candidates that may add enough at the upper end of their forecasts are trained; each training may show that"
        " there is more. Where none is left, the search ends. With one instead of three a search of the own table ends"
        " with .79 of what can be gained, and not with .90: what is screened beside a training decides which it is.",
        "benchmarks/own_table_search.py",
    )
    trials_without_gain: int = rule(
        40,
        "Trials in a row that add nothing count as `low_proposals`. Samplers other than `auto`, which expect nothing,"
        " have this end alone. With 15 a search of the own table ended with .88, with 40 with .905.",
        "benchmarks/own_table_search.py",
    )
    failures: int = rule(
        50,
        "Trials in a row that fail: nothing more is asked then. What waits for a training or trains goes on, and the"
        " search with it if that does not fail.",
    )
    listed_plans: int = rule(
        500,
        "Most plans of a space that is enumerated; its search ends when every plan was tried. A study never exhausts"
        " a larger one.",
    )


@dataclass(frozen=True)
class AskingPolicy:
    """How plans are asked for."""

    ahead_of_boards: int = rule(
        2,
        "Trials that are measured or prepared for each board: the next one is ready when a board becomes free.",
        "benchmarks/eta.py",
    )
    waiting_for_device: int = rule(
        4,
        "Trials that may wait for an unreachable device: more would be drawn without a result to learn from.",
    )
    redraws: int = rule(5, "How often a sampler is asked for another plan than those that run.")
    redraws_at_random: int = rule(50, "How often a plan that does not run is then drawn at random.")
    unseen_draws: int = rule(
        200, "How often a plan without a trial is drawn at random when the sampler repeats itself in a large space."
    )
    startup_trials: int = rule(20, "Trials at random before TPE begins.")
    population: int = rule(20, "Plans in a generation of NSGA-II.")
    share_in_name_only: float = rule(
        0.05,
        "Below this share of its MACs in the precision of its name, a file keeps nothing of it that could be "
        "measured. What computes in fp32 then is not searched beside fp32.",
    )


@dataclass(frozen=True)
class BackbonePolicy:
    """Which backbones take part."""

    most_of_a_glob: int = rule(
        50,
        "Backbones that one glob of a space file may stand for: each is measured unpruned in every runtime and "
        "precision, and its classifier is trained.",
    )
    most_choices: int = rule(
        32,
        "Choices of an untrained backbone that are measured to show that none can meet the limits. One with more is "
        "searched: they would take longer than training its base.",
    )


@dataclass(frozen=True)
class ReferencePointPolicy:
    """The corner from which hypervolume is measured."""

    cost_factor: float = rule(1.1, "Factor between the cost of the baseline and that of the corner.")
    accuracy_drop: float = rule(
        0.05, "Accuracy that the corner has less than the baseline where the file sets no limit of accuracy."
    )
    unmeasured_drop: float = rule(
        0.15,
        "The same of another metric of a task, as a share of its span: what is predicted of it is three times as "
        "uncertain.",
    )


@dataclass(frozen=True)
class MeasuringPolicy:
    """How often a graph is measured, and how its measurements count together."""

    rounds_in_doubt: int = rule(
        2,
        "Screening measurements of a plan where only the width of an interval decides whether it goes on.",
        "benchmarks/noise.py",
    )
    attempts: int = rule(
        2,
        "How often a confirmation is tried that other work disturbed beyond correction. A screening measurement has"
        " a wider interval then, and is repeated where that decides.",
        "benchmarks/noise.py",
    )
    apart_s: float = rule(
        60.0,
        "Measurements whose beginnings lie so many seconds apart are taken for independent.",
        "benchmarks/noise.py",
    )
    shared_variance: float = rule(
        0.5,
        "Share of the variance that measurements closer together have in common. Pairs 11 to 22 s apart differed by"
        " .47 to 1.0 of what pairs minutes apart did, by their squares.",
        "benchmarks/noise.py",
    )
    settled_times: int = rule(
        2,
        "Times at which a model that is shown in the end is screened. Beside references most of an interval is what"
        " differs from minute to minute, so two screens at different times say more than the processes of a "
        "confirmation: half-widths of 3.4 to 3.7 % instead of 4.4 to 4.6 %, in half the time.",
        "benchmarks/noise.py",
    )
    most_screens: int = rule(
        3, "Screens after which a model is settled, however wide its intervals are.", "benchmarks/noise.py"
    )


@dataclass(frozen=True)
class RungZeroPolicy:
    """What is made of a cut model before any gradient step, and what that says. The images are training images of the
    closed-form steps; their numbers enter the keys of trainings."""

    small_kl: float = rule(
        0.005,
        "Divergence from the unpruned model, in nats, below which a refitted model is confirmed as it is: a fine-"
        "tune did not move the accuracy of any of 9 cut models by more than its error.",
        "benchmarks/closed_form.py",
    )
    forgetting_kl: float = rule(
        0.2,
        "Divergence from the unpruned model, in nats, at which a model has forgotten all but 1/e of what its base "
        "learned by heart; with it the accuracies of 34 states of cut models were 0.7 points off, without it 1.5.",
        "benchmarks/own_table.py",
    )
    batch_norm_images: int = rule(
        2048,
        "Images of `full_count_pixels` a side that recalibrate batch norms: 512 cost an unpruned EfficientViT 0.2"
        " points in noise, 4096 gained nothing more.",
        "benchmarks/compensation.py",
    )
    least_batch_norm_images: int = rule(256, "The fewest of them, for larger images.", "benchmarks/compensation.py")
    least_refit_images: int = rule(
        128,
        "Images of the sequential refit: with fewer it was no better than the parallel one on 256.",
        "benchmarks/closed_form.py",
    )
    full_count_pixels: int = rule(
        28,
        "Larger images have more positions to average over, so fewer of them are enough.",
        "benchmarks/compensation.py",
    )


@dataclass(frozen=True)
class RetargetingPolicy:
    """Which models of a finished study are measured on another device."""

    first_graphs: int = rule(
        10, "Graphs that are measured for the predictions, the baseline among them.", "benchmarks/retarget.py"
    )
    least_weight: float = rule(
        0.01,
        "Weight of a model that is hardly on the front, among those whose predictions are to become narrow.",
        "benchmarks/retarget.py",
    )
    least_chance: float = rule(
        0.05, "A model with a smaller chance to be on the front is not measured.", "benchmarks/retarget.py"
    )


@dataclass(frozen=True)
class SearchPolicy:
    """All constants that decide a search, by the question that they answer."""

    training: TrainingPolicy = TrainingPolicy()
    ending: EndingPolicy = EndingPolicy()
    asking: AskingPolicy = AskingPolicy()
    equality: EqualityPolicy = EqualityPolicy()
    backbones: BackbonePolicy = BackbonePolicy()
    reference_point: ReferencePointPolicy = ReferencePointPolicy()
    measuring: MeasuringPolicy = MeasuringPolicy()
    rung_zero: RungZeroPolicy = RungZeroPolicy()
    retargeting: RetargetingPolicy = RetargetingPolicy()

    def searching(self, least_gain: float | None) -> SearchPolicy:
        """The policy of a search whose file says what a plan must be expected to add; None: it does not."""
        return self if least_gain is None else replace(self, training=replace(self.training, least_gain=least_gain))


POLICY = SearchPolicy()
"""The policy of every search, unless a test or a benchmark hands another one to its session."""
