"""What `verify` says of maps: beside those shipped, beside the masks, and beside an earlier bundle."""

import pytest

from support.bundles import image_files, manifest_of, saved, write_bundle
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.verify import bundle as bundles
from vitsearch_agent.verify import segments
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED
from vitsearch_agent.verify.model_runner import ModelRunner

numpy = pytest.importorskip("numpy")

QUALITY = {"value": 1.0, "low": 0.9, "high": 1.0}
NAMES = ("mean_iou", "pixel_accuracy")
QUALITIES = {
    "split": "test",
    "on_split": {name: dict(QUALITY, n=100) for name in NAMES},
    "images": 4,
    "on_images": {name: dict(QUALITY, n=4) for name in NAMES},
}


class Gives(ModelRunner):
    """Gives logits of these maps, or raises this error."""

    def __init__(self, maps):
        self.maps = maps

    def outputs(self, chunk):
        if isinstance(self.maps, Exception):
            raise self.maps
        return numpy.eye(4, dtype="f4")[self.maps[chunk.rows]].transpose(0, 3, 1, 2)

    def measure(self):
        raise AssertionError("nothing is measured")


def maps():
    return numpy.arange(16, dtype="u1").reshape(4, 2, 2) % 4


def written(folder, predictions=None, masks=None, **qualities):
    shipped = maps() if predictions is None else predictions
    files = {
        "images/images.npy": image_files()["images/images.npy"],
        "images/predictions.npy": saved(shipped),
        "images/labels.npy": saved(maps() if masks is None else masks),
    }
    described = manifest_of("segmentation", qualities=dict(QUALITIES, **qualities))
    return bundles.read(write_bundle(folder, described, files))


def outcomes(results):
    return {check.name: check.outcome for check in results}


def test_the_maps_that_were_shipped_pass(tmp_path):
    results = segments.judged(written(tmp_path), Gives(maps()), None)
    assert outcomes(results) == {"outputs": PASSED, "mean_iou": PASSED, "pixel_accuracy": PASSED}
    assert results[0].message == "100.00 % of the positions of 4 maps have the class that they were shipped with"


def test_other_maps_fail_by_their_positions_and_by_the_masks(tmp_path):
    results = segments.judged(written(tmp_path), Gives(3 - maps()), None)
    assert outcomes(results) == {"outputs": FAILED, "mean_iou": FAILED, "pixel_accuracy": FAILED}
    assert results[0].message.startswith("0.00 % of the positions")


def test_masks_may_be_larger_than_maps(tmp_path):
    larger = maps().repeat(3, axis=1).repeat(3, axis=2)
    assert outcomes(segments.judged(written(tmp_path, masks=larger), Gives(maps()), None))["mean_iou"] == PASSED


def test_an_earlier_bundle_with_the_same_images_is_compared_on_them(tmp_path):
    bundle, earlier = written(tmp_path / "now"), written(tmp_path / "before")
    names = [check.name for check in segments.judged(bundle, Gives(maps()), earlier)]
    assert names == ["outputs", "mean_iou", "baseline mean_iou", "pixel_accuracy", "baseline pixel_accuracy"]


def test_outputs_of_another_shape_are_no_maps_of_these_classes(tmp_path):
    larger = maps().repeat(2, axis=1)
    (check,) = segments.judged(written(tmp_path), Gives(larger), None)
    assert check.outcome == FAILED
    assert check.message.endswith("each image gets outputs of shape [4, 4, 2], expected are [4, 2, 2]")


def test_outputs_that_are_no_numbers_fail_and_are_counted(tmp_path):
    class GivesNan(Gives):
        def outputs(self, chunk):
            logits = super().outputs(chunk)
            logits[-1, 0, 0, 0] = numpy.nan
            return logits

    (check,) = segments.judged(written(tmp_path), GivesNan(maps()), None)
    assert (check.outcome, check.message) == (FAILED, "NaN or infinity among the outputs of 1 of 4 images")


def test_a_runtime_that_is_missing_here_says_nothing_of_the_bundle(tmp_path):
    failure = MeasurementFailed("runtime_unavailable", "no onnxruntime")
    (check,) = segments.judged(written(tmp_path), Gives(failure), None)
    assert check.outcome == NOT_JUDGED


def test_a_bundle_without_images_is_not_judged(tmp_path):
    (check,) = segments.judged(written(tmp_path, images=None, on_images={}), Gives(maps()), None)
    assert check.outcome == NOT_JUDGED


@pytest.mark.parametrize("wrong", [maps().astype("<i8"), maps()[:3], maps().reshape(4, 4)])
def test_arrays_that_are_no_maps_are_refused(tmp_path, wrong):
    with pytest.raises(InvalidRequest, match="predictions.npy: expected |u1, 4 x height x width"):
        segments.judged(written(tmp_path, predictions=wrong), Gives(maps()), None)


def test_a_bundle_needs_the_metrics_of_its_task(tmp_path):
    with pytest.raises(InvalidRequest, match="on_split: missing pixel_accuracy"):
        written(tmp_path, on_split={"mean_iou": dict(QUALITY, n=100)})
