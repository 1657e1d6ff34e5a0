import pytest

from vitsearch_agent.base.canonical_json import canonical_json
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.runtimes import reference_models
from vitsearch_agent.wire.job_spec import BlobRef, JobSpec, Owner, job_id
from vitsearch_agent.wire.measure_protocol import CONFIRM, OUTPUTS, REFERENCE, SCREEN, MeasureProtocol
from vitsearch_agent.wire.reductions import REDUCTIONS

SPEC = JobSpec(
    kind="measure",
    manifest=(BlobRef("model.onnx", "ab" * 32, 1234),),
    runtime="onnxruntime",
    options={"graph_optimization_level": "all"},
    protocol=SCREEN,
    repeat=0,
)
SPEC_JSON = {
    "kind": "measure",
    "manifest": [{"name": "model.onnx", "sha256": "ab" * 32, "size": 1234}],
    "runtime": "onnxruntime",
    "options": {"graph_optimization_level": "all"},
    "protocol": {
        "id": "screen-1",
        "warmup_min_runs": 20,
        "warmup_min_s": 0.1,
        "min_runs": 24,
        "min_s": 1.0,
        "max_s": 60.0,
        "timeout_s": 180.0,
        "processes": 2,
        "max_processes": 5,
        "target_rel_half_width": 0.08,
        "budget_s": 10.0,
        "threads": 1,
        "reference": REFERENCE,
    },
    "repeat": 0,
}
IMAGES = {"name": "images.npy", "sha256": "cd" * 32, "size": 9}
# A change here means that devices measure everything again: raise JOB_ID_SCHEMA with intent.
JOB_ID = "e79a2b21de5d5d9829c623a7a0e4deeaa4705b965296ce2bba869600557c4101"


def test_golden_json():
    assert canonical_json(SPEC.to_json()) == canonical_json(SPEC_JSON)
    assert JobSpec.from_json(SPEC_JSON) == SPEC


def test_golden_job_id():
    assert job_id(SPEC, "device-1") == JOB_ID


def test_golden_protocols():
    assert SCREEN.to_json() == SPEC_JSON["protocol"]
    confirm = ("confirm-1", 20, 0.1, 36, 1.6, 60.0, 300.0, 5, 10, 0.02, 20.0, 1, None, REFERENCE)
    assert MeasureProtocol(*confirm) == CONFIRM


def test_the_reference_models_are_those_of_the_digest():
    assert reference_models.reference_digest() == REFERENCE


def test_outputs_are_those_of_the_batch_of_the_measurements():
    assert OUTPUTS.batch == SCREEN.batch == CONFIRM.batch


def test_job_id_depends_only_on_what_is_measured():
    other_size = SPEC._replace(manifest=(BlobRef("model.onnx", "ab" * 32, 99),))
    seconds_as_integers = SPEC._replace(protocol=SCREEN._replace(budget_s=10))
    assert job_id(other_size, "device-1") == job_id(seconds_as_integers, "device-1") == JOB_ID
    different = [
        SPEC._replace(repeat=1),
        SPEC._replace(runtime="noop"),
        SPEC._replace(options={}),
        SPEC._replace(protocol=CONFIRM),
        SPEC._replace(manifest=(BlobRef("model.onnx", "cd" * 32, 1234),)),
    ]
    assert len({job_id(spec, "device-1") for spec in different} | {JOB_ID}) == 6
    assert job_id(SPEC, "device-2") != JOB_ID


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dance"}, "is not one of"),
        ({"kind": "peaks"}, "needs exactly no files; got model.onnx"),
        ({"kind": "outputs", "reduction": "none"}, "with images.npy; got model.onnx"),
        ({"kind": "outputs"}, "reduction: an outputs job needs one of none, argmax_uint8, argmax_uint16"),
        ({"reduction": "none"}, "reduction: only an outputs job has one of none"),
        ({"kind": "outputs", "reduction": "sum"}, "reduction: 'sum' is not one of none"),
        ({"manifest": [*SPEC_JSON["manifest"], IMAGES]}, "needs exactly .*; got model.onnx and images.npy"),
        ({"kind": "outputs", "reduction": "none", "manifest": [IMAGES]}, "needs exactly .*; got images.npy"),
        (
            {"manifest": [{"name": "labels.npy", "sha256": "ab" * 32, "size": 1}]},
            "'labels.npy' is not one of",
        ),
        (
            {"manifest": []},
            "needs exactly model.onnx or .* or model.mlmodel and model.bin; got nothing",
        ),
        ({"manifest": [{"name": "../x", "sha256": "ab" * 32, "size": 1}]}, "not one of model.onnx"),
        ({"manifest": [{"name": "model.onnx", "sha256": "ab", "size": 1}]}, "64 lower-case hex"),
        ({"protocol": dict(SPEC_JSON["protocol"], min_runs=10)}, "from 11 to"),
        ({"protocol": dict(SPEC_JSON["protocol"], max_processes=1)}, "max_processes: 1 is less than the 2 processes"),
        ({"protocol": dict(SPEC_JSON["protocol"], shapes={"images": [1, 0]})}, r"shapes.images\[1\]: .* from 1 to"),
        ({"protocol": dict(SPEC_JSON["protocol"], shapes=[1, 3])}, "protocol.shapes: expected an object"),
        ({"repeat": -1}, "whole number"),
        ({"command": "rm"}, "unknown command"),
    ],
)
def test_invalid_specifications_are_refused(change, message):
    with pytest.raises(InvalidRequest, match=message):
        JobSpec.from_json(dict(SPEC_JSON, **change))


def test_an_outputs_job_has_a_model_images_and_a_reduction():
    described = dict(SPEC_JSON, kind="outputs", reduction="none", manifest=[*SPEC_JSON["manifest"], IMAGES])
    spec = JobSpec.from_json(described)
    assert spec.to_json() == described
    assert (spec.artifact, spec.artifact_kind, spec.model_name) == ("ab" * 32, "onnx", "model.onnx")
    different = [spec._replace(kind="measure"), *(spec._replace(reduction=name) for name in REDUCTIONS)]
    assert len({job_id(other, "device-1") for other in different}) == 1 + len(REDUCTIONS)


def test_owner_round_trip():
    assert Owner("study").to_json() == {"study": "study", "trial": None}
    assert Owner.from_json({"study": "s", "trial": 3}) == Owner("s", 3)


def test_a_requested_phase_changes_the_job_id():
    with_power = SPEC._replace(protocol=SCREEN._replace(power_s=10, idle_s=2.0))
    assert with_power.to_json()["protocol"]["power_s"] == 10.0
    assert JobSpec.from_json(with_power.to_json()) == with_power
    assert job_id(with_power, "device-1") != JOB_ID


def test_batch_and_shapes_change_the_job_id():
    shaped = SPEC._replace(protocol=SCREEN._replace(shapes={"images": (1, 3, 640, 640)}))
    assert shaped.to_json()["protocol"]["shapes"] == {"images": [1, 3, 640, 640]}
    assert JobSpec.from_json(shaped.to_json()) == shaped
    other = SPEC._replace(protocol=SCREEN._replace(shapes={"images": (1, 3, 320, 320)}))
    batch = SPEC._replace(protocol=SCREEN._replace(batch=1))
    assert len({JOB_ID} | {job_id(spec, "device-1") for spec in (shaped, other, batch)}) == 4
