"""A plan resolved on its backbone: what every later stage of a trial needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitsearch.core.keys import ExportTarget, TrialKeys
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.pipeline.shared_stages import SharedParts
from vitsearch.stages import CompressionSpec


@dataclass(frozen=True)
class ResolvedTrial:
    """`shared` is what all trials of this backbone, resolution and window have, `target` how its files are made,
    `stage_keys` has the keys of all its stages."""

    plan: Plan
    shared: SharedParts
    spec: CompressionSpec
    target: ExportTarget
    stage_keys: TrialKeys
    device_id: str

    @property
    def keys(self) -> Keys:
        """The keys of its record before a model is exported."""
        return Keys(self.stage_keys.weights, self.stage_keys.graph, None, self.device_id)

    def exported(self, rung: int) -> Keys:
        """The keys of its record with the model that is exported after `rung`, whether there is one yet or not."""
        return replace(self.keys, artifact_key=self.stage_keys.exports[rung].artifact)


@dataclass(frozen=True)
class KeyedModel:
    """A model that was exported, and the keys under which its file and its figures are stored."""

    plan: Plan
    keys: Keys
