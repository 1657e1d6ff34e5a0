"""A device that was updated between two runs of a study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.progress import Lines
from vitsearch.study.front import read_front
from vitsearch.testing.fakes import FakeDevice, fake_measurement

UPDATED = "f" * 64
NOTE = "the device has another environment than when "


@pytest.fixture
def updated(finished_copy):
    """A study of eight trainings, whose device has another environment now."""
    study = replace(finished_copy(), progress=Lines())
    study.device.info = study.device.info._replace(environment_id=UPDATED)
    return study


def graphs_of(study):
    return {record.keys.graph_key for record in study.records().values() if record.is_confirmed}


def test_all_confirmed_models_are_measured_again(updated):
    before = updated.records()
    updated.run()
    assert updated.records() == before
    with updated.opened() as (_, ledger):
        for graph in graphs_of(updated):
            environments = {row.environment_id for row in ledger.measurements(graph, "fake")}
            assert UPDATED in environments
    assert [line for line in updated.progress.said if line.startswith(NOTE)]


class Slower(FakeDevice):
    """Takes twice as long as the file says."""

    async def measure(self, artifact, deployment, protocol, repeat):
        measurement = await super().measure(artifact, deployment, protocol, repeat)
        where = {name: getattr(measurement, name) for name in ("device_id", "environment_id", "started_at")}
        return fake_measurement(2.0 * measurement.cpu_ms.p50, protocol, runtime=deployment.runtime, **where)


def test_no_model_is_on_the_front_for_its_figures_of_before(updated):
    """All models are slower alike, so the front has the same models."""

    def front():
        with updated.opened() as (study, ledger):
            return {point.trial: point.metrics.value("cpu_ms_p50") for point in read_front(study, ledger).points}

    before = front()
    replace(updated, device=Slower(info=updated.device.info)).run()
    assert front() == {trial: pytest.approx(2.0 * ms) for trial, ms in before.items()}


def test_an_unchanged_device_measures_nothing_again(finished_copy):
    study = replace(finished_copy(), progress=Lines())
    study.run()
    assert not [line for line in study.progress.said if line.startswith(NOTE)]
