"""Rung 0: a model is refitted in closed form, without a gradient step, and compared with its base."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.core.stage import Stage
from vitsearch.stages.job import CompressedJob, Evaluation, Reference


@dataclass(frozen=True)
class ProxyJob(CompressedJob[Evaluation]):
    stage = Stage.PROXY
    reference: Reference

    def work(self) -> Evaluation:
        from vitsearch.stages.parts.judging import judged
        from vitsearch.stages.parts.models import refitted

        return judged(refitted(self.spec, self.workspace), self, self.reference)
