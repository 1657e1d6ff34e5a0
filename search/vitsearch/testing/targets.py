"""A conformance test of targets: subclass `TargetTests` and set `runtime`.

    class TestMyTarget(TargetTests):
        runtime = "my_runtime"

It finds what `vitsearch.core.targets.TARGETS` has under that name, so an entry point is tested too, and fails where a
fact is missing here or in the agent. What the files compute is tested by `vitsearch.testing.exporters`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest

from vitsearch.core.caveats.known_bad import concerns
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import CALIBRATED, provider_for, quantized_ops_of, supports_on
from vitsearch.core.targets import TARGETS, Target, converters
from vitsearch.export.base import Exporter
from vitsearch.export.bundle_example import BundleExample
from vitsearch.export.device_jobs import device_job
from vitsearch.registry import loaded
from vitsearch_agent import runtimes
from vitsearch_agent.runtime_facts import FORMATS, RUNTIMES

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "executorch", "coremltools", "numpy")


class TargetTests:
    """What every target guarantees.

    Attributes:
        runtime: Its name in `TARGETS`.
    """

    runtime: ClassVar[str]

    @pytest.fixture
    def target(self) -> Target:
        return TARGETS[self.runtime]

    def deployments(self, target: Target) -> list[Deployment]:
        """Each provider at each precision that it computes in."""
        return [
            Deployment("local", target.name, provider, precision, 1, ops)
            for provider in target.providers
            for precision in target.precisions
            if supports_on(target.name, provider, precision) is None
            for ops in quantized_ops_of(target.name, provider, precision) or (None,)
        ]

    def test_its_facts_agree_with_each_other(self, target: Target) -> None:
        assert target.name == self.runtime
        assert not set(target.refused) & set(target.precisions)
        assert not set(target.unbuilt) & set(target.providers)
        for named in (target.threaded & {"cpu"}, target.paired, target.npus, target.refused_on):
            assert set(named) <= set(target.providers)
        assert set(target.quantized_ops) | set(target.same_graph) <= set(target.precisions)
        assert all(provider_for(target.name, precision) for precision in target.precisions)
        assert set(converters()) >= set(target.converters)
        assert target.quantized_ops.keys() >= set(CALIBRATED) & set(target.precisions) - {"w8a16"}

    def test_its_parts_are_there(self, target: Target) -> None:
        exporter: type[Exporter] = loaded(target.exporter)
        assert exporter.runtime == target.name
        assert all(exporter().supports("vit", precision) is None for precision in target.precisions)
        assert issubclass(loaded(target.example), BundleExample)
        for part in (
            target.metadata,
            target.shares,
            target.structure,
            *(each.verify for each in converters().values()),
        ):
            assert part is None or callable(loaded(part))
        for npu in target.npus.values():
            assert npu.package
            assert callable(loaded(npu.is_imitated))

    def test_agents_know_its_runtimes_and_files(self, target: Target) -> None:
        assert f"model{target.suffix}" in {form.files[0] for form in FORMATS.values()}
        for known in target.on_device:
            assert known.name in runtimes.table()
            assert runtimes.create(known.name).gives_outputs or not target.runs_here or known != target.on_device[0]
            facts = RUNTIMES.get(known.name)
            assert facts is None or facts.tools or facts.package, "nothing says how it is installed on a device"

    def test_an_agent_takes_the_job_of_each_deployment(self, target: Target) -> None:
        for known in target.on_device:
            words = known.precision_words
            assert known.precision_option is not None or not words
            for deployment in self.deployments(target):
                if known.lists_providers == "cpu alone" and deployment.provider != "cpu":
                    continue
                job = device_job(deployment, [known.name])
                assert job.runtime == known.name
                options = runtimes.create(job.runtime).check_options(job.options)
                if known.provider_option is not None:
                    assert options[known.provider_option] == target.providers[deployment.provider]

    def test_what_is_known_against_it_concerns_what_it_has(self, target: Target) -> None:
        for combination in target.known_bad:
            backbone = combination.backbones[0].replace("*", "any")
            assert any(concerns(combination, backbone, deployment) for deployment in self.deployments(target))

    def test_its_facts_need_no_library(self) -> None:
        code = f"import sys, vitsearch.core.targets as t; t.TARGETS[{self.runtime!r}]; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not set(done.stdout.split()) & set(HEAVY)
