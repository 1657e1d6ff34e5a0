"""What earlier studies teach the forecasts of a new one: the line from rung 0 to the result, and how far results lie
from it. None of their figures: other data and other devices have others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.priors import PRIOR_IMAGES, Prior, prior_of
from vitsearch.core.record import trainings
from vitsearch.errors import StudyError, VitsearchError
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel
from vitsearch.search.plan_requests import lost_beside_fp32, stored_leaders
from vitsearch.search.posterior import finished_training
from vitsearch.space import SearchSpace
from vitsearch.storage.addresses import shown_argument
from vitsearch.study.lookup import StudyLocation, find, opened
from vitsearch.study.study import Study

ATTRIBUTE = "priors"
DIFFERENCE = 0.5
"""How far the line of one study lies from that of another, as a share of what is believed before any."""
OWN_BELIEF = 2
"""Studies that the belief in an error in common counts for."""
MOST_DEGREES = 20
"""Trainings that a noise from other studies counts for at most: those of the new one may scatter otherwise."""


@dataclass(frozen=True)
class EarlierStudy:
    """A study with what its trainings made of their rung 0, on `images` images each."""

    name: str
    images: int
    trainings: Mapping[str, Sequence[FinishedTraining]]
    """By metric."""


def stored_priors(study: Study) -> dict[str, Prior]:
    """What a study has learned from others, by metric."""
    stored = study.attributes.get(ATTRIBUTE)
    return {} if stored is None else {name: Prior(**prior) for name, prior in stored["priors"].items()}


def priors_of(study: Study, space: SearchSpace) -> dict[str, Prior]:
    """What a study believes before its first training, by metric.

    Args:
        study: Keeps what it has learned: a later run needs no other study for it.
        space: Names the studies to learn from in `search.prior`.

    Returns:
        Empty where it names none.

    Raises:
        StudyError: A study is not there, or has no training of the metrics of this one.
    """
    stored, names = study.attributes.get(ATTRIBUTE), space.search.safe_prior
    if names != ([] if stored is None else stored["studies"]):
        learned = {name: asdict(prior) for name, prior in learned_from(space).items()}
        study.remember(ATTRIBUTE, {"studies": names, "priors": learned})
    return stored_priors(study)


def learned_from(space: SearchSpace) -> dict[str, Prior]:
    """The beliefs of `priors_of`, from the studies themselves; raises as that."""
    studies = [_read(name, space) for name in space.search.prior]
    return {
        metric: learned(prior_of(metric), studies, metric)
        for metric in space.qualities
        if any(study.trainings.get(metric) for study in studies)
    }


def learned(prior: Prior, studies: Sequence[EarlierStudy], metric: str) -> Prior:
    """A belief about a metric with the trainings of earlier studies: their line with an error of at least `DIFFERENCE`
    of what was believed, their noise, and how far their results lay beside the line together."""
    seen: dict[str, list[FinishedTraining]] = {
        study.name: [_as_usual(each, study, prior) for each in study.trainings.get(metric, ())] for study in studies
    }
    observed = [each for trained in seen.values() for each in trained]
    line = QualityModel.fit(observed, prior)
    offsets = [
        mean(
            float(line.mean[2 + place]) for backbone, place in line.offsets.items() if backbone.startswith(f"{name}\n")
        )
        for name, trained in seen.items()
        if trained
    ]
    return replace(
        prior,
        slope=float(line.mean[0]),
        slope_error=math.hypot(math.sqrt(line.covariance[0, 0]), DIFFERENCE * prior.slope_error),
        lost=float(line.mean[1]),
        lost_error=math.hypot(math.sqrt(line.covariance[1, 1]), DIFFERENCE * prior.lost_error),
        noise=line.noise,
        noise_degrees=min(prior.noise_degrees + len(observed), max(prior.noise_degrees, MOST_DEGREES)),
        common_error=math.sqrt(
            (OWN_BELIEF * prior.common_error**2 + sum(offset**2 for offset in offsets)) / (OWN_BELIEF + len(offsets))
        ),
        is_measured=True,
    )


def _as_usual(training: FinishedTraining, study: EarlierStudy, prior: Prior) -> FinishedTraining:
    """A training as if it had seen `PRIOR_IMAGES`, of a backbone of its study: what is lost decays with its images."""
    start, factor = training.start, (PRIOR_IMAGES / study.images) ** prior.lost_decay
    backbone = f"{study.name}\n{start.backbone}"
    lost, lost_error = start.lost * factor, start.lost_error * factor
    return replace(training, start=replace(start, backbone=backbone, lost=lost, lost_error=lost_error))


def _read(name: str, space: SearchSpace) -> EarlierStudy:
    try:
        if find(name) == StudyLocation(space.storage, space.study):
            raise StudyError("names the study itself; leave it out")
        with opened(name) as (study, _):
            trained = {metric: list(_trainings(study, metric)) for metric in space.qualities}
            images = study.space().recipe(study.space().baseline.backbone).images
    except VitsearchError as error:
        raise StudyError(f"search.prior: {error}") from error
    if not any(trained.values()):
        wanted = ", ".join(space.qualities)
        raise StudyError(
            f"search.prior: study {shown_argument(name)!r} has no training whose {wanted} was forecast; leave it out"
        )
    return EarlierStudy(name, images, trained)


def _trainings(study: Study, name: str) -> Iterator[FinishedTraining]:
    """The trainings of a study, each with what it has lost beside its unpruned model in fp32."""
    rows = stored_leaders(study).items()
    leaders = {(plan.backbone, plan.deployment): Metrics.from_json(row) for plan, row in rows}
    bases = {backbone: leader for (backbone, deployment), leader in leaders.items() if deployment.precision == "fp32"}
    lost, records = lost_beside_fp32(leaders), study.records()
    for number in trainings(records).values():
        record = records[number]
        base = bases.get(record.plan.backbone, NO_METRICS).value(name)
        of_deployment = lost.get((record.plan.backbone, record.plan.deployment), {}).get(name, 0.0)
        if (training := finished_training(record, name, base, of_deployment)) is not None:
            yield training
