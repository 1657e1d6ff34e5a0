"""The finished models of a study, as they are deployed on another device, with what is known of each before it is
measured there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.precisions import TRAINED
from vitsearch.core.record import Keys, Record
from vitsearch.errors import ResourceError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.search.retarget.transfer_model import GraphFeatures
from vitsearch.study.retargeted import Target

LATENCY = "latency_ms_p50"
"""Stands for the cost here of a metric that was not measured here."""
LEAST = 1e-9


@dataclass(frozen=True)
class RetargetCandidate:
    """A model of the study. `trial` is None for the baseline, `own` its deployment in the study and `here` its
    figures on the device of the study; `plan` and `keys` are those of its deployment there."""

    trial: int | None
    own: Deployment
    here: Metrics
    plan: Plan
    rung: int
    keys: Keys

    @property
    def name(self) -> str:
        return "baseline" if self.trial is None else f"trial {self.trial}"

    @property
    def moves_only(self) -> bool:
        """Whether it runs there as it does here."""
        return replace(self.own, device=self.plan.deployment.device) == self.plan.deployment

    def graph(self, metric: str) -> GraphFeatures:
        """What its cost there is predicted from."""
        cost = self.here.value(metric) or self.here.value(LATENCY)
        values = (cost, self.here.value("macs_m"), self.here.value("params_m"))
        logs = tuple(math.log(max(value or 0.0, LEAST)) for value in values)
        return GraphFeatures(self.plan.backbone, f"{_words(self.own)} > {_words(self.plan.deployment)}", logs)

    def measured(self, metrics: Metrics) -> Record:
        """Its record, once it was measured there."""
        return Record("confirmed", self.plan, "", self.keys, metrics, rung=self.rung)


def _words(deployment: Deployment) -> str:
    words = [deployment.runtime, deployment.provider, deployment.precision]
    words += [f"batch {deployment.batch}"] if (deployment.batch or 1) > 1 else []
    return " ".join([*words, *([f"{deployment.threads} threads"] if deployment.threads > 1 else [])])


@dataclass(frozen=True)
class Finder:
    """Moves models to a target. `refused` says why a plan cannot be built or run there, or None; `here` gives the
    figures of a record on the device of the study."""

    pipeline: Pipeline
    target: Target
    refused: Callable[[Plan], str | None]
    here: Callable[[Record], Metrics]

    async def baseline(self, record: Record) -> RetargetCandidate:
        """The baseline stays in fp32. Raises `ResourceError` where it cannot run."""
        deployment = replace(self.target, quantization=None).deployment(record.plan.deployment)
        if reason := self._why_not(record, _on(record.plan, deployment)):
            raise ResourceError(f"the baseline, to which limits refer, cannot run there: {reason}")
        return await self._candidate(None, record, deployment)

    async def models(self, records: Mapping[int, Record]) -> tuple[list[RetargetCandidate], dict[int, str]]:
        """Every confirmed model of `records`, and why others cannot run there, by trial. Models that differ only in
        what the target replaces are one there: the one that moves only, or else the first."""
        candidates: dict[tuple[str, int, Deployment], RetargetCandidate] = {}
        left_out: dict[int, str] = {}
        for trial, record in records.items():
            if not record.is_confirmed or record.keys is None:
                continue
            deployment = self.target.deployment(record.plan.deployment)
            if reason := self._why_not(record, _on(record.plan, deployment)):
                left_out[trial] = reason
                continue
            candidate = await self._candidate(trial, record, deployment)
            same = candidate.keys.weights_key, record.rung, self._as_replaced(deployment)
            if same not in candidates or candidate.moves_only:
                candidates[same] = candidate
        return list(candidates.values()), left_out

    def _as_replaced(self, deployment: Deployment) -> Deployment:
        """Where the target replaces the precision, the layers that int8 covered before make no other model."""
        return deployment if self.target.quantization is None else replace(deployment, quantized_ops=None)

    def _why_not(self, record: Record, plan: Plan) -> str | None:
        own, moved = record.plan.deployment.precision, plan.deployment.precision
        if moved in TRAINED and own not in TRAINED and record.rung > 0:
            return f"{moved} needs a training, and nothing is trained for another device"
        return self.refused(plan)

    async def _candidate(self, trial: int | None, record: Record, deployment: Deployment) -> RetargetCandidate:
        plan = _on(record.plan, deployment)
        keys = (await self.pipeline.resolve(plan)).exported(record.rung)
        return RetargetCandidate(trial, record.plan.deployment, self.here(record), plan, record.rung, keys)


def _on(plan: Plan, deployment: Deployment) -> Plan:
    return replace(plan, deployments=(deployment,))
