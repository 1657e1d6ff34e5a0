"""What passes and what fails: the figures of a bundle and their intervals decide."""

from collections import namedtuple

import pytest

from support.bundles import manifest
from vitsearch_agent.verify import checks
from vitsearch_agent.verify.bundle import Counted, Manifest, Quality
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED, ImageCounts
from vitsearch_agent.verify.metrics import Estimate
from vitsearch_agent.verify.model_runner import Measured
from vitsearch_agent.wire.metrics import Figure

HERE = {"board": "b", "cpu": "c"}
SHIPPED = Counted("test", 500, 450)


def time_of(low, p50, high):
    return Figure(p50, low, high)


@pytest.fixture
def judged(monkeypatch):
    """judged(figures now, environment, changes of the manifest) -> outcome by name, message by name."""

    def judge(now, environment=HERE, prefix="", flags=(), batch=1, **changes):
        monkeypatch.setattr(checks, "figures_of", lambda measurement, times: now)
        monkeypatch.setattr(checks, "_same_references", lambda measurement, shipped, otherwise: otherwise)
        fields = {
            "reasons": {"power": "no meter"},
            "flags": flags,
            "batch": batch,
            "__getattr__": lambda self, name: None,
        }
        measurement = type("Nothing", (), fields)()
        results = list(
            checks.figures(Measured(measurement, environment), Manifest.from_json(manifest(**changes)), prefix)
        )
        return {check.name: check.outcome for check in results}, {check.name: check.message for check in results}

    return judge


def test_intact_files_pass():
    assert checks.files(12, []) == ("files", PASSED, "12 files have the checksums that they were shipped with")


def test_changed_files_fail_by_name():
    check = checks.files(12, ["labels.json was changed"])
    assert check.outcome == FAILED
    assert check.message == "not the 12 files that were shipped: labels.json was changed"


def test_added_files_are_to_be_deleted():
    message = checks.files(12, ["__pycache__/ was added"]).message
    assert message == "not the 12 files that were shipped: __pycache__/ was added; delete what was added"


def test_very_many_wrong_files_are_counted():
    message = checks.files(12, [f"{number} was added" for number in range(1000)]).message
    assert message.endswith("; 9 was added; and 990 more; delete what was added")


@pytest.mark.parametrize(("correct", "outcome"), [(450, PASSED), (437, PASSED), (435, FAILED), (500, PASSED)])
def test_an_accuracy_fails_below_the_interval_of_the_shipped_one(correct, outcome):
    assert checks.accuracy(ImageCounts("the images", 500, correct, correct), SHIPPED).outcome == outcome


@pytest.mark.parametrize(("n", "correct", "outcome"), [(50, 42, PASSED), (50, 30, FAILED), (500, 420, FAILED)])
def test_few_other_images_say_little(n, correct, outcome):
    assert checks.accuracy(ImageCounts("other images", n, correct), SHIPPED).outcome == outcome


def test_the_message_counts_the_images_that_get_another_class():
    same = checks.accuracy(ImageCounts("the images in the bundle", 500, 450, 500), SHIPPED).message
    assert same == (
        "450 of 500 correct (0.9000) of the images in the bundle; shipped: 0.9000 (0.8706 to 0.9233) on 500 test "
        "images; every image gets the same class as when shipped"
    )
    some = checks.accuracy(ImageCounts("x", 500, 450, 497), SHIPPED).message
    assert some.endswith("; 3 images get another class than when shipped")

    message = checks.accuracy(ImageCounts("x", 500, 450, 499), SHIPPED).message
    assert message.endswith("; 1 image gets another class than when shipped")


def test_a_baseline_of_the_same_images_is_compared_image_by_image():
    check = checks.baseline_accuracy(ImageCounts("the images in the bundle", 500, 450, 488), SHIPPED)
    assert check == (
        "baseline accuracy",
        PASSED,
        "450 of 500 correct (0.9000) of the images in the bundle; the baseline: 0.9000 (0.8706 to 0.9233) on the same "
        "images; 12 images get another class than from the baseline",
    )
    assert checks.baseline_accuracy(ImageCounts("x", 500, 435, 488), SHIPPED).outcome == FAILED


@pytest.mark.parametrize(("correct", "outcome"), [(454, PASSED), (435, PASSED), (420, FAILED)])
def test_a_baseline_of_other_images_fails_where_both_intervals_say_so(correct, outcome):
    check = checks.baseline_accuracy(ImageCounts("the images in the bundle", 500, correct), Counted("test", 2000, 1809))
    assert check.outcome == outcome
    assert check.message.endswith("; the baseline: 0.9045 (0.8908 to 0.9166) on 2000 test images of its own")


@pytest.mark.parametrize(
    ("name", "now", "low", "outcome"),
    [
        ("cosine", 0.9791, 0.98, PASSED),
        ("cosine", 0.9789, 0.98, FAILED),
        ("neighbours", 0.996, 1.0, PASSED),
        ("neighbours", 0.994, 1.0, FAILED),
    ],
)
def test_a_quality_fails_below_its_interval_by_more_than_rounding(name, now, low, outcome):
    shipped = Quality((1 + low) / 2, low, 1.0, 500)
    check = checks.quality(name, Estimate(now, None, None, 500), "the images in the bundle", shipped, "test")
    assert check.outcome == outcome
    interval = f"{shipped.value:.4f} ({low:.4f} to 1.0000) on 500 test images"
    assert check.message == f"mean {now:.4f} on the images in the bundle; shipped: {interval}"


@pytest.mark.parametrize(
    ("same_images", "high", "outcome"), [(True, 0.99, FAILED), (False, 0.99, PASSED), (False, 0.97, FAILED)]
)
def test_a_baseline_of_other_images_needs_both_intervals(same_images, high, outcome):
    now, earlier = Estimate(0.97, 0.95, high, 4), Quality(0.985, 0.98, 0.99, 500)
    assert checks.baseline_quality("cosine", now, earlier, same_images).outcome == outcome


def test_embeddings_are_counted_that_differ_from_those_shipped():
    numpy = pytest.importorskip("numpy")
    assert checks.same_embeddings(numpy.array([1.0, 0.999])).outcome == PASSED
    check = checks.same_embeddings(numpy.array([0.9989, 1.0, -0.5]))
    assert check.outcome == FAILED
    assert check.message.startswith("2 of 3 images get another output than when shipped: cosine below 0.999, ")
    assert check.message.endswith("the worst -0.5000 (image 2)")


def test_other_outputs_may_differ_by_two_steps_of_int8():
    assert checks.same_outputs(2 / 127, 4).outcome == PASSED
    assert checks.same_outputs(3 / 127, 4).outcome == FAILED


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (time_of(0.95, 1.0, 1.05), PASSED),
        (time_of(1.05, 1.2, 1.3), PASSED),
        (time_of(1.15, 1.2, 1.3), FAILED),
        (time_of(0.1, 0.2, 0.3), PASSED),
        (time_of(None, 1.2, None), FAILED),
    ],
)
def test_a_time_fails_where_both_intervals_say_that_it_is_longer(judged, now, outcome):
    outcomes, _ = judged({"latency_ms_p50": now})
    assert outcomes["latency_ms_p50"] == outcome


def test_figures_without_an_interval_are_shown_and_not_judged(judged):
    outcomes, messages = judged({"peak_memory_mb": Figure(9.0, None, None)})
    assert outcomes["peak_memory_mb"] == NOT_JUDGED
    assert messages["peak_memory_mb"] == "9; shipped: 5; it has no interval to judge by"


def test_figures_of_another_processor_are_not_judged(judged):
    outcomes, messages = judged({"latency_ms_p50": time_of(8.0, 9.0, 10.0)}, {"board": "b", "cpu": "other"})
    assert outcomes["latency_ms_p50"] == NOT_JUDGED
    assert messages["latency_ms_p50"].endswith("they are those of local, another cpu: c, here other")


def test_figures_of_an_emulated_device_are_not_judged(judged):
    device = {"name": "local@pc", "kind": "emulated", "environment": HERE}
    outcomes, messages = judged({"latency_ms_p50": time_of(8.0, 9.0, 10.0)}, device=device)
    assert outcomes["latency_ms_p50"] == NOT_JUDGED
    assert messages["latency_ms_p50"].endswith("the shipped figures are those of local@pc, an emulated device")


def test_times_of_runs_of_other_numbers_of_images_are_not_judged(judged):
    outcomes, messages = judged({"latency_ms_p50": time_of(8.0, 9.0, 10.0)}, prefix="baseline ", batch=8)
    assert outcomes["baseline latency_ms_p50"] == NOT_JUDGED
    expected = "; that is the time of a run of 1 image, this of 8 images"
    assert messages["baseline latency_ms_p50"].endswith(expected)


def test_a_figure_that_is_missing_now_has_its_reason(judged):
    outcomes, messages = judged({}, figures={"energy_mj": {"value": 3.0, "low": None, "high": None}})
    assert outcomes["energy_mj"] == NOT_JUDGED
    assert messages["energy_mj"] == "no meter; shipped: 3"


@pytest.mark.parametrize(
    ("runtime", "threads", "is_same"), [("onnxruntime", 1, True), ("openvino", 1, False), ("onnxruntime", 2, False)]
)
def test_an_earlier_bundle_lends_its_reference_times_only_to_the_same_references(runtime, threads, is_same):
    shipped = Manifest.from_json(manifest())._replace(reference_times="earlier")
    protocol = shipped.protocol._replace(threads=threads)
    measurement = namedtuple("Measurement", "runtime protocol")(runtime, protocol)
    chosen = checks._same_references(measurement, shipped, "own")
    assert chosen == ("earlier" if is_same else "own")


def test_a_disturbed_measurement_fails_nothing(judged):
    slow = {"latency_ms_p50": time_of(1.15, 1.2, 1.3)}
    outcomes, messages = judged(slow, flags=("contended", "memory_bound"))
    assert outcomes["latency_ms_p50"] == NOT_JUDGED
    assert messages["latency_ms_p50"].endswith("; the device was disturbed (contended): verify again")
    assert judged({"latency_ms_p50": time_of(0.9, 1.0, 1.1)}, flags=("contended",))[0]["latency_ms_p50"] == PASSED
