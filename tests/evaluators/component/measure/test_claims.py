"""Models that report figures of their own, in a real agent: what cannot be is a failure, and never recorded."""

import json

import pytest

from support.artifact_files import identity
from support.faulty_site import install_faults
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.measure_protocol import REFERENCE


@pytest.fixture(scope="module")
def claiming(tmp_path_factory, tiny_protocol):
    """claiming(options, **protocol): measure a model of batch 1 with the `faults` runtime in one agent for all."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("claims")
    install_faults(folder, patch)
    (folder / "model.onnx").write_bytes(identity(shape=(1, 3)))
    with EmbeddedAgent(str(folder / "state")) as agent, agent.client("study") as client:
        yield lambda options, **protocol: client.measure(
            str(folder / "model.onnx"), "faults", options, tiny_protocol._replace(**protocol)
        )
    patch.undo()


def runs(n, wall_ms, cpu_ms=None):
    return {"wall_ms": [wall_ms] * n, "cpu_ms": [wall_ms if cpu_ms is None else cpu_ms] * n}


def block(model, reference=(0.5, 0.5)):
    return [[[model, reference, reference]] * 4]


@pytest.mark.parametrize(
    ("claims", "protocol", "reason"),
    [
        (runs(11, 0.0), {}, "a median of 0 ms"),
        (runs(11, 1e-9), {}, "a median of 1e-09 ms"),
        (runs(9999, 0.3), {}, "9999 runs with a median of 0.3 ms, .* was there for"),
        (runs(11, 0.1, 10.0), {}, "10 ms of CPU time in 0.1 ms of the median run"),
        (runs(11, 0.1, 1e6), {}, "of CPU time of the runs; the process took"),
        ({"cpu_ms": []}, {}, "0 CPU times of 11 runs"),
        ({"scheduler_cpu_s": 1e3}, {}, "1e\\+03 s of CPU time while sampling"),
        ({"batch": 4096}, {}, "batch 4096; it is 1 by the job and the model's file"),
        ({"shapes": {"x": [2, 3]}}, {}, "shape \\[2, 3\\] of x; it is \\[1, 3\\]"),
        ({"load_ms": 1e6}, {}, "after 1e\\+03 s to load"),
        ({"first_inference_ms": 1e6}, {}, "after 1e\\+03 s to load"),
        ({"peak_memory_mb": None}, {}, "no memory, of which"),
        ({"bursts": block([0.2, 0.2])}, {}, "which the protocol does not have"),
        (dict(runs(11, 0.1), bursts=block([1e-6, 0.1])), {"reference": REFERENCE}, "a block of 1e-06 ms; its runs"),
        (dict(runs(11, 0.1), bursts=block([0.1, 0.1], (1e-9, 1e-9))), {"reference": REFERENCE}, "runs of 1e-09 ms"),
        (dict(runs(11, 0.1), bursts=block([0.1, 0.1])), {"reference": REFERENCE}, "4 blocks of 11 runs"),
        ({"images_per_s": 1e9}, {"throughput_s": 0.1}, "1e\\+09 images/s of"),
        ({"images_per_s": 1e9, "runs": 10**9}, {"throughput_s": 0.1}, "runs of .* ms in 1 streams"),
    ],
)
def test_a_claim_that_cannot_be_fails_the_job_with_its_reason(claiming, claims, protocol, reason):
    with pytest.raises(MeasurementFailed, match=reason) as caught:
        claiming({"fault": "claim", "gate": json.dumps(claims)}, **protocol)
    assert caught.value.kind == "protocol"


def test_a_process_that_ends_before_the_protocol_can_be_over_is_not_believed(claiming):
    with pytest.raises(MeasurementFailed, match="take .* s by the protocol; the process was there for"):
        claiming({"fault": "hurry"}, warmup_min_s=1.0, min_s=1.0)


def test_memory_that_was_used_is_seen_or_the_process_may_not_make_the_kernel_forget_it(claiming):
    """It may not where Landlock holds."""
    with pytest.raises(MeasurementFailed, match="MB of memory; 4.. MB were seen|Permission denied: '/proc/self/clear"):
        claiming({"fault": "hide"})


def test_answers_that_a_process_leaves_for_the_next_ones_are_not_read(claiming):
    assert claiming({"fault": "forge"}, processes=3, max_processes=3).latency_ms.n == 33


def test_a_model_that_claims_nothing_is_measured(claiming):
    measured = claiming({"fault": "claim", "gate": "{}"}, processes=2, max_processes=2, throughput_s=0.1, soak_s=0.1)
    assert (measured.latency_ms.n, measured.batch) == (22, 1)
