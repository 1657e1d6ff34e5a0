"""Images without labels are labelled by the network itself: the stages of a tiny ONNX file on such images."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitsearch import stages
from vitsearch.backbones.onnx_family import OnnxFamily
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import OnnxNetwork
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.preprocessing import NONE, PreprocessingKeys
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.errors import NetworkError
from vitsearch.models.backbone import ModelSpec
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.parts.images import load_data, own_logits
from vitsearch.stages.parts.pseudo_labels import mean_cosine
from vitsearch.storage.files import FileStore

SIZE, CLASSES, IMAGES = 16, 3, 20
RECIPE = Recipe((0, 1), 8, 4, 1e-4, 0.05, 2, 0.5, 2.0, 0)
FP32 = Deployment("local", "onnxruntime", "cpu", "fp32")
CALIBRATION = Calibration(4, 0)
READS = PreprocessingKeys((0.0,), (1.0,))


def network(folder, seed=0):
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 32, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, CLASSES))
    path = folder / f"{seed}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(nn.Sequential(*layers).eval(), (torch.zeros(1, 1, SIZE, SIZE),), str(path), dynamo=False)
    return OnnxNetwork("theirs", str(path), "nchw", ImageSize.square(SIZE))


@pytest.fixture
def folder(tmp_path):
    for index in range(IMAGES):
        pixels = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        (tmp_path / "photos" / ("test" if index % 4 == 0 else "train")).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / ("test" if index % 4 == 0 else "train") / f"{index}.png")
    return tmp_path


@pytest.fixture
def workspace(folder):
    def of(theirs, keys=READS):
        data = {"source": "folder", "root": str(folder / "photos"), "image_size": SIZE, "channels": 1, "labels": "none"}
        data |= {"validation_share": 0.7, "seed": 0}
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        return stages.Workspace(data, *stores, folder / "cache", (theirs,), stages.PseudoLabels(theirs, keys))

    return of


def exported(workspace, deployment):
    theirs = workspace.networks[0]
    source = stages.Source("theirs", f"file:{theirs.path}", ImageSize.square(SIZE), NONE)
    base = stages.BaseJob(workspace, source, RECIPE).work()
    source = replace(source, weights=f"{stages.STORED}{base.weights_sha256}")
    found = stages.BlockStructureJob(workspace, source, CALIBRATION).work()
    plan = Plan("theirs", source.weights, source.resolution, None, Compression(), "none", RECIPE, (deployment,))
    resolved = resolve(plan, BlockStructure.from_json(found.block_structure), Scores.from_json(found.scores))
    spec = stages.CompressionSpec(source, resolved, found.statistics_sha256)
    job = stages.ExportJob(workspace, spec, deployment, 17, CALIBRATION, None)
    return base, job.work()


def test_the_fp32_file_agrees_with_itself(workspace, folder):
    base, file = exported(workspace(network(folder)), FP32)
    assert base.qualities["accuracy"] == file.judged.values["accuracy"] == 1.0
    assert file.detail()["cosine"] == pytest.approx(1.0)


def test_a_rounded_file_has_the_share_that_gets_the_same_class(workspace, folder):
    place = workspace(network(folder))
    _, file = exported(place, replace(FP32, precision="int8_ptq", quantized_ops="all"))
    assert 0.99 < file.cosine < 1.0
    assert file.n == len(load_data(place).validation)
    assert file.judged.values["accuracy"] >= 0.5


def test_labels_are_the_classes_of_the_outputs(workspace, folder):
    place = workspace(network(folder))
    images = load_data(place)
    pixels = torch.from_numpy(images.validation.images.copy()).permute(0, 3, 1, 2) / 255
    theirs = place.networks[0]
    model = (
        OnnxFamily(theirs).build(ModelSpec("theirs", f"file:{theirs.path}", ImageSize.square(SIZE), CLASSES, 1)).model
    )
    np.testing.assert_allclose(own_logits(place), model(pixels).numpy(), atol=1e-5)
    assert images.validation.labels.tolist() == own_logits(place).argmax(1).tolist()
    assert images.class_names == ("0", "1", "2")
    assert len(images.test) == IMAGES / 4
    assert images.test.labels.dtype == np.int64
    assert own_logits(replace(place, labels=None)) is None


def test_another_file_and_another_way_to_read_images_are_other_data(workspace, folder):
    theirs = network(folder)
    places = [workspace(theirs), workspace(network(folder, 1)), workspace(theirs, PreprocessingKeys((0.5,), (0.5,)))]
    prints = [load_data(place).identity.fingerprint for place in places]
    assert len(set(prints)) == len(prints)
    again = replace(places[0], cache=folder / "elsewhere")
    assert load_data(again).identity.fingerprint == prints[0]


def test_outputs_are_computed_once_on_a_machine(workspace, folder):
    place = workspace(network(folder))
    load_data(place)
    (kept,) = place.cache.glob("outputs-*.npy")
    logits = np.load(kept)
    np.save(kept, logits[:, ::-1])
    other_process = replace(place, data=place.data | {"holdout_images": 1})
    assert own_logits(other_process).tolist() == logits[:, ::-1].tolist()


def test_a_file_that_is_gone_is_named(workspace, folder):
    place = workspace(network(folder))
    os.remove(place.networks[0].path)
    with pytest.raises(NetworkError, match="theirs: .*0.onnx does not exist any more, and its outputs are the labels"):
        load_data(place)


def test_a_file_that_was_changed_labels_nothing(workspace, folder):
    known = replace(network(folder), architecture="ab" * 32)
    with pytest.raises(NetworkError, match="is another file here"):
        load_data(workspace(known))


def test_names_of_classes_are_those_of_the_file_and_differ(workspace, folder):
    (folder / "labels.txt").write_text("crane\nbolt\ncrane\n")
    theirs = replace(network(folder), classes=str(folder / "labels.txt"))
    _, file = exported(workspace(theirs), FP32)
    assert load_data(workspace(theirs)).class_names == ("crane (0)", "bolt", "crane (2)")
    assert file.judged.values["accuracy"] == 1.0


def test_the_cosine_is_the_mean_of_those_of_the_images():
    own = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    assert mean_cosine(own * 3, own) == pytest.approx(1.0)
    assert mean_cosine(np.array([[1.0, 0.0], [2.0, 0.0]], np.float32), own) == pytest.approx(0.5)
    assert mean_cosine(np.zeros((2, 2), np.float32), own) == 0.0
