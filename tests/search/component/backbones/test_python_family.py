"""Networks of the user's own code: imported, looked at, built, and refused in one line each."""

import importlib
import itertools
import sys
import textwrap
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from vitsearch import backbones
from vitsearch.backbones.own_code import code_digest, make_as_written
from vitsearch.backbones.python_family import PythonFamily, examine_network
from vitsearch.compress import prune
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT
from vitsearch.core.plan import Compression
from vitsearch.core.resolve import Scores, resolve
from vitsearch.errors import NetworkError, PlanError, WeightsError
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.backbone import ModelSpec
from vitsearch.models.classifier import class_count, classifiers_of
from vitsearch.models.surgery import head_columns

NET = """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.GroupNorm(1, width)
            self.grow, self.shrink = nn.Conv2d(width, 32, 1), nn.Conv2d(32, width, 1)

        def forward(self, x):
            return x + 0.5 * self.shrink(torch.relu(self.grow(self.norm(x))))

    class Net(nn.Module):
        def __init__(self, classes, channels):
            super().__init__()
            self.stem = nn.Conv2d(channels, 16, 4, 4)
            self.blocks = nn.Sequential(Block(16), Block(16))
            self.drop = nn.Dropout(0.1)
            self.out = nn.Linear(16, classes)

        def forward(self, x):
            return self.out(self.drop(self.blocks(self.stem(x)).mean((2, 3))))

    def make(classes, channels):
        return Net(classes, channels)
"""
DRAWN = NET.replace("import torch\n", "import numpy as np\n    import torch\n", 1).replace(
    "        return Net(classes, channels)",
    "        net, draw = Net(classes, channels), {}\n"
    "        net.stem.weight.data = torch.tensor(draw.normal(size=net.stem.weight.shape), dtype=torch.float32)\n"
    "        return net",
)
numbers = itertools.count()


@pytest.fixture
def network(tmp_path):
    """Writes code into a module of a new name, and gives its network."""

    def write(code=NET, entry="make", resolution=16):
        name = f"own_network_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return PythonNetwork("ours", f"{name}:{entry}", str(tmp_path), ImageSize.of(resolution))

    return write


def spec(weights="none", classes=5, channels=1, resolution=16):
    return ModelSpec("ours", weights, ImageSize.of(resolution), classes, channels)


def built(network, **changes):
    return PythonFamily(network).build(spec(**changes))


def saved(state, folder):
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return f"file:{path}"


def test_a_network_is_found_by_its_name(network):
    ours = network()
    assert backbones.find("ours", (ours,)).family == "ours"
    assert backbones.find("vit_fmnist_p4", (ours,)).family == "vit"


def test_it_is_built_for_the_classes_and_channels_of_the_data(network):
    made = built(network(), classes=4, channels=1)
    assert made.head_is_new
    assert made.model(torch.zeros(3, 1, 16, 16)).shape == (3, 4)
    assert class_count(made.model) == 4
    assert classifiers_of(made.model) == [made.model.out]


def test_without_classes_it_gives_what_its_classifier_reads(network, tmp_path):
    ours = network()
    weights = saved(built(ours, classes=4).model.state_dict(), tmp_path)
    encoder = built(ours, weights=weights, classes=0)
    assert not encoder.head_is_new
    assert class_count(encoder.model) == 0
    read = []
    whole = built(ours, weights=weights, classes=4).model
    whole.out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    images = torch.randn(2, 1, 16, 16)
    whole(images)
    torch.testing.assert_close(encoder.model(images), read[0])


def test_its_hidden_channels_and_blocks_are_found(network):
    family, ours = PythonFamily(network()), built(network())
    shapes = [(unit.name, unit.ffn_width, unit.removable) for unit in family.units(ours.model)]
    assert shapes == [("blocks.0", 32, True), ("blocks.1", 32, True)]


def test_a_cut_network_computes_what_is_left_of_it(network, plan):
    family, made = PythonFamily(network()), built(network())
    structure = family.block_structure(made.model, spec())
    resolved = resolve(
        replace(plan, compression=Compression(ffn_pruning_ratio=0.5)), structure, Scores.equal(structure)
    )
    whole = built(network()).model
    for block, kept in enumerate(resolved.blocks):
        gone = sorted({*range(32)} - {*kept.ffn})
        whole.blocks[block].shrink.weight.data[:, gone] = 0
    prune.apply(made.model, family, resolved, torch.zeros(1, 1, 16, 16))
    images = torch.randn(2, 1, 16, 16)
    assert made.model.blocks[0].grow.out_channels == 16
    assert torch.allclose(made.model(images), whole(images), atol=1e-5)


def test_weights_of_a_file_are_loaded_with_its_classes(network, tmp_path):
    ours = network()
    weights = built(ours, classes=5).model.state_dict()
    weights["out.bias"] += 1
    same = built(ours, weights=saved(weights, tmp_path))
    assert not same.head_is_new
    assert torch.equal(same.model.out.bias, weights["out.bias"])


def test_weights_inside_of_another_module_are_found(network, tmp_path):
    ours = network()
    weights = built(ours, classes=5).model.state_dict()
    inside = built(ours, weights=saved({f"net.{name}": value for name, value in weights.items()}, tmp_path))
    assert torch.equal(inside.model.stem.weight, weights["stem.weight"])


def test_weights_for_other_channels_say_so(network, tmp_path):
    ours = network()
    weights = saved(built(ours, channels=3).model.state_dict(), tmp_path)
    assert PythonFamily(ours).supports("ours", "weights", weights) is None
    with pytest.raises(WeightsError, match="holds weights of ours for images of 3 channels, and these have 1"):
        built(ours, channels=1, weights=weights)


def test_another_way_to_write_a_graph_is_examined_for_itself(network):
    attention = """
    class Attend(nn.Module):
        def __init__(self, heads=4):
            super().__init__()
            self.num_heads = heads
            self.q, self.k, self.v, self.proj = (nn.Linear(16, 16) for _ in range(4))

        def forward(self, x):
            b, n, c = x.shape
            q, k, v = (layer(x).reshape(b, n, self.num_heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
            y = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
            return x + self.proj(y.transpose(1, 2).reshape(b, n, WIDTH))
    """
    code = (
        NET.replace("    class Net", attention.rstrip() + "\n\n    class Net", 1)
        .replace(
            "self.blocks(self.stem(x)).mean((2, 3))",
            "self.attend(self.blocks(self.stem(x)).flatten(2).transpose(1, 2)).mean(1)",
        )
        .replace("self.drop =", "self.attend = Attend()\n            self.drop =")
    )
    stays, goes = (PythonFamily(network(code.replace("WIDTH", width))) for width in ("c", "-1"))
    assert examine_network(stays.network).architecture == examine_network(goes.network).architecture
    assert "heads of 1 Attend" in goes.levels("ours").lines()
    assert "no attention heads" in stays.levels("ours").lines()
    assert "shape" in str(stays.supports("ours", "head_pruning_ratio", 0.5))


def test_weights_of_other_classes_get_a_new_classifier(network, tmp_path):
    ours = network()
    weights = built(ours, classes=9).model.state_dict()
    other = built(ours, weights=saved(weights, tmp_path), classes=5)
    assert other.head_is_new
    assert other.model.out.out_features == 5
    assert torch.equal(other.model.stem.weight, weights["stem.weight"])


def test_weights_that_do_not_fit_are_named(network, tmp_path):
    weights = built(network()).model.state_dict()
    weights["stem.weight"], weights["extra"] = torch.zeros(3, 1, 4, 4), weights.pop("stem.bias")
    with pytest.raises(WeightsError, match=r"missing: stem.bias; not of this model: extra; of another shape: stem"):
        built(network(), weights=saved(weights, tmp_path))


TWO_INPUTS = "forward(self, x):\n            return self.out", "forward(self, x, mask):\n            return self.out"
SOFTMAX = (
    "return self.out(self.drop(self.blocks(self.stem(x)).mean((2, 3))))",
    "return self.out(self.stem(x).mean((2, 3))).softmax(1)",
)
LAST = SOFTMAX[0]
MIXING = LAST, f"y = {LAST.removeprefix('return ')}; return y - y.mean(0)"
AUXILIARY = LAST, f"y = {LAST.removeprefix('return ')}; return (y, y) if self.training else y"
BRANCH = LAST, f"y = {LAST.removeprefix('return ')}; return -y if float(x.mean()) > 0.3 else y"
EARLY_EXIT = LAST, f"y = {LAST.removeprefix('return ')}; return -y if y.softmax(1).max() > 0.99 else y"
IN_PLACE = "torch.relu(self.grow(self.norm(x)))", "torch.relu(self.grow(self.norm(x))).mul_(2)"
LEN = ".mean((2, 3))", ".mean((2, 3)).view(len(x), 16)"
MADE = "return Net(classes, channels)"
FIXED = NET + "\n    def fixed():\n        return Net(11, 3)\n"


def test_a_network_of_a_fixed_number_of_classes_gets_a_classifier_for_the_data(network):
    ours = network(FIXED, "fixed")
    assert examine_network(ours).fixed_classes == 11
    made = built(ours, classes=5, channels=3)
    assert made.model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_images_of_channels_that_it_does_not_take_are_refused(network):
    with pytest.raises(PlanError, match="ours takes images with 3 channels, and these have 1"):
        built(network(FIXED, "fixed"), channels=1)


def test_a_network_may_give_logits_for_each_position_of_a_map(network):
    code = NET.replace("nn.Linear(16, classes)", "nn.Conv2d(16, classes, 1)").replace(".mean((2, 3))", "")
    ours = network(code)
    assert examine_network(ours).gives_map
    made = built(ours, classes=5)
    assert made.model(torch.zeros(2, 1, 16, 16)).shape == (2, 5, 4, 4)
    assert class_count(made.model) == 5
    assert classifiers_of(made.model) == [made.model.out]


def test_probabilities_of_a_map_are_refused(network):
    code = NET.replace("nn.Linear(16, classes)", "nn.Conv2d(16, classes, 1)")
    old, _ = SOFTMAX
    code = code.replace(old, "return self.out(self.stem(x)).softmax(1)")
    with pytest.raises(NetworkError, match="its outputs are probabilities"):
        examine_network(network(code))


def test_without_a_layer_of_logits_other_classes_are_refused(network):
    code = FIXED.replace("return self.out(", "return 2 * self.out(")
    assert examine_network(network(code, "fixed")).classifier is None
    with pytest.raises(PlanError, match="ours has 11 fixed outputs, and no single layer produces them"):
        built(network(code, "fixed"), channels=3)


SCALED = NET.replace("return self.out(", "return 2 * self.out(")
ENCODER = NET.replace("return self.out(", "return nn.functional.normalize(").replace(
    "make(classes, channels)", "make(channels)"
).replace("Net(classes,", "Net(1,")  # fmt: skip


def test_a_network_without_a_layer_of_logits_has_the_classes_of_its_weights(network, tmp_path):
    ours = network(SCALED)
    assert examine_network(ours).classifier is None
    state = built(ours, classes=19).model.state_dict()
    state["out.bias"] += 1
    weights = saved(state, tmp_path)
    assert PythonFamily(ours).supports("ours", "weights", weights) is None
    same = built(ours, classes=19, weights=weights)
    assert not same.head_is_new
    assert torch.equal(same.model.out.bias, state["out.bias"])


def test_for_other_classes_it_keeps_what_does_not_depend_on_them(network, tmp_path):
    ours = network(SCALED)
    state = built(ours, classes=19).model.state_dict()
    other = built(ours, classes=5, weights=saved(state, tmp_path))
    assert other.head_is_new
    assert other.model(torch.zeros(2, 1, 16, 16)).shape == (2, 5)
    assert torch.equal(other.model.stem.weight, state["stem.weight"])


def test_weights_that_do_not_fit_a_network_without_a_layer_of_logits_are_named(network, tmp_path):
    ours = network(SCALED)
    state = built(ours, classes=19, channels=3).model.state_dict()
    del state["stem.bias"]
    reason = PythonFamily(ours).supports("ours", "weights", saved(state, tmp_path))
    assert "missing: stem.bias" in reason
    assert "of another shape" not in reason


def test_an_encoder_without_classes_takes_its_weights(network, tmp_path):
    ours = network(ENCODER)
    assert examine_network(ours).fixed_classes == 16
    weights = saved(built(ours, classes=0).model.state_dict(), tmp_path)
    assert PythonFamily(ours).supports("ours", "weights", weights) is None
    encoder = built(ours, weights=weights, classes=0)
    assert not encoder.head_is_new
    assert encoder.model(torch.zeros(2, 1, 16, 16)).shape == (2, 16)


def test_the_same_code_is_the_same_architecture(network):
    first, second = (
        examine_network(network()),
        examine_network(network(NET.replace("import torch\n", "import torch\n\n", 1))),
    )
    assert first.architecture == second.architecture


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5 * self.shrink", "0.25 * self.shrink"),  # only a number of the graph
        ("torch.relu", "torch.tanh"),  # only its operators
        ("nn.Dropout(0.1)", "nn.Dropout(0.2)"),  # only training
        ("nn.Dropout(0.1)", "nn.Dropout(0.1); self.stem.weight.data *= 5"),  # only how weights are drawn
        ("nn.Conv2d(width, 32, 1), nn.Conv2d(32", "nn.Conv2d(width, 48, 1), nn.Conv2d(48"),
    ],
)
def test_changed_code_is_another_architecture(network, old, new):
    assert old in NET
    assert examine_network(network()).architecture != examine_network(network(NET.replace(old, new))).architecture


def test_a_worker_with_other_code_refuses_to_build(network):
    ours = network()
    other = PythonNetwork(ours.name, ours.entry, ours.folder, ours.resolution, architecture="0" * 64)
    with pytest.raises(NetworkError, match=r"another network on .* \(\w{12}\) than the study has \(000000000000\)"):
        built(other)


def test_what_its_author_declares_is_cut_too(network):
    code = NET + (
        "\n    from vitsearch.structure.values import Width\n"
        "    Net.units = lambda self: [Width('', ('stem',), (), (), 'blocks.0.grow', 16)]\n"
    )
    with pytest.raises(NetworkError, match=r"ours: units\(\) says that 'blocks.0.grow' can be cut: "):
        PythonFamily(network(code)).structure("ours")
    code = code.replace(
        "'', ('stem',), (), (), 'blocks.0.grow', 16", "'blocks.0', ('blocks.0.grow',), (), (), 'blocks.0.shrink', 32"
    )
    assert len(PythonFamily(network(code)).structure("ours").parts) == 2


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        ("import no_such_package_of_ours", "make", "cannot be imported on .*: it needs 'no_such_package_of_ours'"),
        ("1 / 0", "make", r"cannot be imported: ZeroDivisionError: division by zero \(own_network_\d+.py line 1\)"),
        ("def other(): pass", "make", r"has no function 'make'; it has other"),
        ("def make(width): pass", "make", "needs 'width', which vitsearch does not give; it gives classes, channels"),
        ("def make(): return 3", "make", "returned int, not a torch.nn.Module"),
        ("def make(): raise ValueError('no')", "make", r"failed: ValueError: no \(own_network_\d+.py line 1\)"),
        (NET.replace(*TWO_INPUTS), "make", "does not classify images .*: 'mask'; it gets one argument"),
        (NET.replace("return self.out(", "return 1, self.out("), "make", "it gives tuple for 2 images and 7 classes"),
        (NET.replace(".mean((2, 3))", ".mean((0, 2, 3))"), "make", r"it gives \(7,\) for 2 images .*, \(2, 7\)"),
        (NET.replace("(16, classes)", "(16, 3)"), "make", r"it gives \(2, 3\) for 2 images and 7 classes"),
        (NET.replace("0.5 * ", "float('nan') * "), "make", "its outputs for random images have NaN or infinity"),
        ("def make(:", "make", r"cannot be imported: SyntaxError: .*line 1\)$"),
        (NET.replace(*SOFTMAX), "make", "its outputs are probabilities, which sum to 1; return the logits"),
        (NET.replace("self.drop(", "torch.dropout("). replace(".mean((2, 3))", ".mean((2, 3)), 0.5, True"), "make",
         "its outputs for the same images differ from call to call"),
        (NET.replace(*MIXING), "make", "what it gives for an image depends on the other images of the batch"),
        (NET.replace(MADE, "return torch.jit.script(Net(classes, channels))"), "make", "it is a TorchScript module"),
        (NET.replace("self.drop = nn.Dropout(0.1)", "self.drop = torch.jit.script(nn.Dropout(0.1))"), "make",
         "'drop' is a TorchScript module"),
        (NET.replace(MADE, "return torch.compile(Net(classes, channels))"), "make", "it is a module of torch.compile"),
        (NET.replace(MADE, f"{MADE}.requires_grad_(False)"), "make", "its outputs have no gradients"),
        (NET.replace(*IN_PLACE), "make", r"in training \(model.train\(\)\) it fails: one of the variables needed"),
        (NET.replace(*LEN), "make", r"own_network_\d+.py line 23 takes len\(\) of a tensor, which fixes the number of"),
        (NET.replace(*BRANCH), "make", r"own_network_\d+.py line 23 reads a number out of a tensor that"),
        (NET.replace(*EARLY_EXIT), "make", r"own_network_\d+.py line 23 reads a number out of a tensor that"),
        (DRAWN.format("np.random.default_rng()"), "make", "made twice, its 'stem.weight' has other values each time"),
        (NET.replace(*AUXILIARY), "make", r"in training \(model.train\(\)\) it gives tuple, and expected are"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_in_one_line(network, code, entry, message):
    with pytest.raises(NetworkError, match=f"ours: .*{message}") as caught:
        examine_network(network(code, entry))
    assert "\n" not in str(caught.value)


def test_a_module_that_an_installed_package_hides_is_refused(tmp_path):
    (tmp_path / "timm.py").write_text("def make(): pass\n")
    with pytest.raises(NetworkError, match="is imported instead of the module 'timm'"):
        examine_network(PythonNetwork("ours", "timm:make", str(tmp_path), ImageSize.square(16)))


def test_a_module_that_is_nowhere_is_refused_with_the_places_and_the_machine(tmp_path):
    with pytest.raises(
        NetworkError, match=rf"no module 'nowhere_at_all' on .*: neither installed there nor in {tmp_path}"
    ):
        examine_network(PythonNetwork("ours", "nowhere_at_all.nets:make", str(tmp_path), ImageSize.square(16)))


@pytest.mark.parametrize("generator", ["np.random", "np.random.default_rng(3)"])
def test_weights_that_numpy_draws_are_the_same_in_each_process(network, generator):
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    own = network(DRAWN.format(generator))
    weights = built(own).model.state_dict()["stem.weight"]
    assert (np.random.get_state()[1] == before).all(), "the numbers of others are not used up"
    np.random.seed(8)
    assert torch.equal(built(own).model.state_dict()["stem.weight"], weights)


def test_a_number_that_images_do_not_change_may_be_read(network):
    code = NET.replace(LAST, f"y = {LAST.removeprefix('return ')}; return y if float(self.out.bias.sum()) < 9 else -y")
    assert examine_network(network(code)).channels


def test_an_assertion_about_the_images_is_no_branch(network):
    code = NET.replace(LAST, f"assert x.isfinite().all(), 'NaN'; {LAST}")
    assert examine_network(network(code)).channels


@pytest.mark.long
def test_what_one_exporter_cannot_write_is_written_by_the_other(network):
    code = NET.replace("Block(16))", "Block(16), nn.AdaptiveAvgPool2d(3))")
    assert examine_network(network(code)).exporter == DYNAMO
    assert examine_network(network()).exporter == TORCHSCRIPT


@pytest.mark.long
def test_a_network_that_no_exporter_writes_is_refused(network):
    code = NET.replace("torch.relu(", "torch.special.bessel_j0(")
    with pytest.raises(NetworkError, match="ours: no ONNX file can be written of it: "):
        examine_network(network(code))


FUSING = (
    NET.replace("blocks(self.stem(x))", "fuse(self.stem(x), self.stem(x))").replace(
        "            self.drop =", "            self.fuse = Fuse()\n            self.drop ="
    )
    + """
    class Fuse(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)

        def fuse(self, high, low):
            return self.one(high) + self.other(low)

        def forward(self, high, low):
            return self.fuse(high, low)
"""
)


def test_what_a_module_of_ones_own_calls_fuse_is_left_alone(network):
    ours = network(FUSING)
    family = PythonFamily(ours)
    model = family.build(ModelSpec("ours", "none", ImageSize.square(16), 3, 1)).model
    assert family.deployable(model) is model


ATTENDING = """
    import torch
    from torch import nn

    class Attend(BASE):
        def __init__(self, heads=4):
            super().__init__()
            self.num_heads = heads
            self.q, self.k, self.v, self.proj = (nn.Linear(16, 16) for _ in range(4))

        def forward(self, x):
            b, n, c = x.shape
            q, k, v = (layer(x).reshape(b, n, self.num_heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
            y = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
            return x + self.proj(self.joined(y.transpose(1, 2), (b, n, c)))

    class Net(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.stem, self.attend, self.out = nn.Conv2d(3, 16, 4, 4), Attend(), nn.Linear(16, classes)

        def forward(self, x):
            return self.out(self.attend(self.stem(x).flatten(2).transpose(1, 2)).mean(1))
"""
JOINED = """
    def joined(y, shape):
        return y.reshape(*shape[:2], WIDTH)
"""
MADE = """
    def make(classes):
        net = Net(classes)
        net.attend.joined = joined
        return net
"""
JOINING = """
    from torch import nn

    class Joining(nn.Module):
        def joined(self, y, shape):
            return y.reshape(*shape[:2], WIDTH)
"""
ALL, KEPT = "shape[2]", "-1"
"""Widths that make one graph: with fewer heads, only the second runs."""


def test_a_structure_is_found_again_when_the_file_of_the_function_changes(network):
    pieces, _ = network(ATTENDING.replace("BASE", "nn.Module")).entry.split(":")
    stays, goes = (
        PythonFamily(network(f"    from {pieces} import Net\n{JOINED.replace('WIDTH', width)}{MADE}"))
        for width in (ALL, KEPT)
    )
    assert "no attention heads" in stays.levels("ours").lines()
    assert "heads of 1 Attend" in goes.levels("ours").lines()
    assert examine_network(stays.network).architecture == examine_network(goes.network).architecture


def test_two_functions_of_one_file_have_structures_of_their_own(network):
    second = (
        f"{JOINED}{MADE}".replace("WIDTH", KEPT).replace("joined(", "joined_to(").replace("= joined", "= joined_to")
    )
    code = f"{ATTENDING}{JOINED}{MADE}{second.replace('make', 'make_other')}"
    code = code.replace("BASE", "nn.Module").replace("WIDTH", ALL)
    stays = network(code)
    goes = replace(stays, entry=f"{stays.entry}_other")
    assert "no attention heads" in PythonFamily(stays).levels("ours").lines()
    assert "heads of 1 Attend" in PythonFamily(goes).levels("ours").lines()


@pytest.mark.parametrize("where", ["beside it", "elsewhere"])
def test_a_structure_is_found_again_when_a_file_that_it_imports_changes(where, network, tmp_path, monkeypatch):
    """Beside it are functions; of another package is a base class."""
    imported = f"imported_{next(numbers)}"
    if where == "beside it":
        folder, text = tmp_path, JOINED
        code = f"    from {imported} import joined\n{ATTENDING.replace('BASE', 'nn.Module')}{MADE}"
    else:
        folder, text = tmp_path / "elsewhere" / "site-packages", JOINING
        folder.mkdir(parents=True)
        monkeypatch.syspath_prepend(folder)
        code = f"    from {imported} import Joining\n{ATTENDING.replace('BASE', 'Joining')}"
        code += "\n    def make(classes):\n        return Net(classes)\n"
    lines, architectures = [], set()
    for width in (ALL, KEPT):
        sys.modules.pop(imported, None)
        (folder / f"{imported}.py").write_text(textwrap.dedent(text.replace("WIDTH", width)))
        ours = network(code)
        lines.append([*PythonFamily(ours).levels("ours").lines()])
        architectures.add(examine_network(ours).architecture)
    assert len(architectures) == 1
    assert "no attention heads" in lines[0]
    assert "heads of 1 Attend" in lines[1]


def test_a_structure_is_kept_where_only_a_file_of_others_changes(network, tmp_path, monkeypatch):
    """What is installed below the folder of the network, and not the network's, does not count."""
    ours = network()
    first = code_digest(ours, examine_network(ours).model)
    folder = tmp_path / "venv" / "site-packages"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(folder)
    name = f"installed_{next(numbers)}"
    (folder / f"{name}.py").write_text("")
    importlib.import_module(name)
    assert code_digest(ours, examine_network(ours).model) == first


TORCHS = """
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, spectral_norm, weight_norm

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.attend_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))

        def forward(self, x):
            y = self.attend_norm(x)
            x = x + self.attend(y, y, y)[0]
            return x + self.mlp(self.norm(x))

    class SequenceFirst(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm, self.attend = nn.LayerNorm(width), nn.MultiheadAttention(width, 4)

        def forward(self, x):
            y = self.norm(x).transpose(0, 1)
            return x + self.attend(y, y, y, need_weights=False)[0].transpose(0, 1)

    class Normed(nn.Module):
        def __init__(self, width):
            super().__init__()
            norms = weight_norm, spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm
            self.grow = nn.ModuleList([norm(nn.Linear(width, 48)) for norm in norms])
            self.shrink = nn.ModuleList([norm(nn.Linear(48, width)) for norm in norms])

        def forward(self, x):
            for grow, shrink in zip(self.grow, self.shrink):
                x = x + shrink(torch.relu(grow(x)))
            return x

    class Net(nn.Module):
        def __init__(self, classes, channels, block, width=32):
            super().__init__()
            self.stem = nn.Conv2d(channels, width, 4, 4)
            self.blocks = nn.Sequential(block(width), block(width))
            self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, classes)

        def forward(self, x):
            x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
            return self.out(self.norm(x).mean(1))

    def own(classes, channels):
        return Net(classes, channels, Block)

    def sequence_first(classes, channels):
        return Net(classes, channels, SequenceFirst)

    def encoder_layer(classes, channels):
        return Net(classes, channels, lambda width: nn.TransformerEncoderLayer(width, 4, 48, batch_first=True))

    def encoder(classes, channels):
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, norm_first=True)
        return Net(classes, channels, lambda width: nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))

    def normed(classes, channels):
        return Net(classes, channels, Normed)

    def normed_attention(classes, channels):
        net = own(classes, channels)
        for block in net.blocks:
            parametrizations.weight_norm(block.attend.out_proj)
            weight_norm(block.mlp[0])
        return net
"""
ATTENTIONS = ["own", "sequence_first", "encoder_layer", "encoder", "normed_attention"]
IMAGES = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16).sin()


def as_trained(ours, classes):
    """The network as its author makes it and trains it, in evaluation mode."""
    model = make_as_written(ours, classes=classes, channels=3, resolution=ours.resolution)
    model.train()(IMAGES)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn_like(values) * 0.05)
    return model.eval()


def saved_by_torch(model, folder):
    torch.save(model.state_dict(), folder / "weights.pt")
    return f"file:{folder / 'weights.pt'}"


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("classes", [5, 7])
@pytest.mark.parametrize("entry", [*ATTENTIONS, "normed"])
def test_weights_that_the_author_saved_give_what_they_gave(network, tmp_path, entry, classes):
    ours = network(TORCHS, entry)
    author = as_trained(ours, classes)
    weights = saved_by_torch(author, tmp_path)
    assert PythonFamily(ours).supports("ours", "weights", weights) is None
    loaded = built(ours, weights=weights, classes=classes, channels=3)
    assert not loaded.head_is_new
    if "normed" not in entry:
        assert loaded.model.state_dict().keys() == author.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(IMAGES), author(IMAGES), atol=1e-5, rtol=1e-5)
    other = built(ours, weights=weights, classes=9, channels=3)
    assert other.head_is_new
    assert torch.equal(other.model.stem.weight, author.stem.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_inside_of_another_module_are_found_where_they_are_computed(network, tmp_path):
    ours = network(TORCHS, "normed")
    author = as_trained(ours, 5)
    weights = saved_by_torch(torch.nn.ModuleDict({"model": author}), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(built(ours, weights=weights, channels=3).model(IMAGES), author(IMAGES))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_do_not_fit_a_network_of_computed_ones_are_named(network, tmp_path):
    ours = network(TORCHS, "normed")
    author = as_trained(ours, 5)
    state = author.state_dict()
    del state["blocks.0.grow.0.weight_g"]
    with pytest.raises(WeightsError, match=r"missing: blocks.0.grow.0.weight; not of this model: .*grow.0.weight_v"):
        built(ours, weights=saved(state, tmp_path), channels=3)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_channels_behind_computed_weights_are_found(network):
    family = PythonFamily(network(TORCHS, "normed"))
    parts = family.structure("ours").parts
    assert [part.width.channels for part in parts] == [48] * 8


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("entry", ATTENTIONS)
def test_heads_of_torchs_attention_are_cut_and_exported(network, plan, tmp_path, entry):
    ours = network(TORCHS, entry)
    family, options = PythonFamily(ours), {"channels": 3}
    options["weights"] = saved_by_torch(as_trained(ours, 5), tmp_path)
    made, whole = built(ours, **options).model, built(ours, **options).model
    structure = family.block_structure(made, spec(**options))
    compression = Compression(head_pruning_ratio=0.5)
    resolved = resolve(replace(plan, compression=compression), structure, Scores.equal(structure))
    found = [part.heads for part in family.structure("ours").parts]
    attentions = 4 if entry == "encoder" else 2
    assert sum(heads is not None for heads in found) == attentions
    assert f"heads of {attentions} MultiheadAttention" in family.levels("ours").lines()
    for heads, block in zip(found, resolved.blocks, strict=True):
        if heads is not None:
            assert (heads.count, len(block.heads)) == (4, 2)
            gone = head_columns(sorted({*range(4)} - {*block.heads}), heads.head_dim)
            whole.get_submodule(heads.consumer).weight.data[:, gone] = 0
    prune.apply(made, family, resolved, IMAGES)
    assert all(made.get_submodule(heads.consumer).in_features == 16 for heads in found if heads)
    with torch.no_grad():
        expected = whole(IMAGES)
        assert float((made(IMAGES) - expected).abs().max()) <= 1e-6 * max(1.0, float(expected.abs().max()))
        path = tmp_path / "model.onnx"
        write_onnx(made, tuple(IMAGES.shape), path, exporter=examine_network(ours).exporter)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), made(IMAGES), atol=1e-5, rtol=1e-5)
