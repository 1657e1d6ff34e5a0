"""A device that has another environment than before: another kernel, runtime, agent or setting, and so other figures.

Figures of two environments do not compare. New models would be held against old figures of the others, and whichever
environment is faster would win. So what was confirmed before is measured again, before anything new is.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitsearch.core.plan import plan_text
from vitsearch.core.record import Record
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.resolved_trial import KeyedModel
from vitsearch.search.together import together


async def measure_again(pipeline: Pipeline, records: Mapping[int, Record]) -> None:
    """Measure the confirmed models of `records` that this device has not measured in its present environment. One that
    cannot be measured keeps its figures, and is named."""
    device_id = pipeline.device.info.device_id
    models = {
        record.keys.graph_key: KeyedModel(record.plan, record.keys)
        for record in records.values()
        if record.is_confirmed and record.keys is not None and record.keys.device_id == device_id
    }
    stale = [model for model in models.values() if not pipeline.is_measured_now(model.keys)]
    if not stale:
        return
    count = "1 model was" if len(stale) == 1 else f"{len(stale)} models were"
    pipeline.context.progress.note(
        f"the device has another environment than when {count} measured (kernel, runtime, agent or settings): "
        f"{'it is' if len(stale) == 1 else 'they are'} measured again"
    )
    await together(_measure(pipeline, model) for model in stale)


async def _measure(pipeline: Pipeline, model: KeyedModel) -> None:
    try:
        is_measured = await pipeline.measure_now(model)
        why = "its file is gone"
    except StageError as error:
        is_measured, why = False, str(error)
    if not is_measured:
        pipeline.context.progress.note(f"{plan_text(model.plan)} keeps the figures of before: {why}")
