"""The last pass of a run beside another driver."""

import asyncio
from types import SimpleNamespace

from vitsearch.core.record import Record
from vitsearch.errors import StageError
from vitsearch.search.final_pass import FinalPass


def test_a_model_that_another_driver_has_just_confirmed_is_re_measured_too(plan):
    records, asked = {}, []

    async def remeasure(keys, plan, rounds):
        asked.append((keys, rounds))
        return True

    config, context = SimpleNamespace(confirms=False), SimpleNamespace(progress=None)
    pipeline = SimpleNamespace(config=config, context=context, remeasure_when_idle=remeasure)
    last = FinalPass(pipeline, lambda: records, lambda: None, str)
    records[14] = Record("confirmed", plan)
    point = SimpleNamespace(trial=14, keys="keys", plan=plan)
    assert asyncio.run(last._remeasure(point))
    assert [keys for keys, _ in asked] == ["keys"]


def test_a_model_that_cannot_be_measured_any_more_is_told_and_the_others_go_on():
    said = []

    async def remeasure(keys, plan, rounds):
        raise StageError("measure", "timeout", "measuring failed (timeout)")

    config, context = SimpleNamespace(confirms=False), SimpleNamespace(progress=SimpleNamespace(note=said.append))
    pipeline = SimpleNamespace(config=config, context=context, remeasure_when_idle=remeasure)
    last = FinalPass(pipeline, dict, lambda: None, str)
    point = SimpleNamespace(trial=None, keys="keys", plan=None, name="trial 7")
    assert not asyncio.run(last._remeasure(point))
    (line,) = said
    assert line.startswith("trial 7 was not measured again: ")
