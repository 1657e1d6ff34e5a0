"""Images that are no squares: what is computed, what it costs, and where weights know positions."""

import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.onnx_family import OnnxFamily
from vitsearch.backbones.python_family import PythonFamily
from vitsearch.backbones.tables import grid_of, resample_tables
from vitsearch.compress import macs, tokens
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import OnnxNetwork, PythonNetwork
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.core.token_counts import tokens_left
from vitsearch.errors import NetworkError, PlanError
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.testing.families import BackboneTestCase, VariantTestCase
from vitsearch.testing.families.subject import smaller_models

WIDE = ImageSize(64, 96)
VIT, SWIN, MOBILEVIT = "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs"
SMALLER = {VIT: {"depth": 2}, SWIN: {"depths": (1, 1, 2, 1), "embed_dim": 48}, MOBILEVIT: {}}
LOGITS = 10


class TestWideViT(BackboneTestCase):
    spec = ModelSpec(VIT, "none", ImageSize(32, 64), LOGITS)
    arguments = {"depth": 4}
    other_resolution = ImageSize(48, 16)
    unsupported = (("resolution", ImageSize(32, 65)), ("window_size", 7))

    def test_weights_load_at_another_resolution(self):
        """The file of a user does not say the shape of its images; see `test_positions_of_...` for those of a study."""


class TestWideSwin(VariantTestCase):
    spec = ModelSpec(SWIN, "none", WIDE, LOGITS)
    arguments = SMALLER[SWIN]
    other_resolution = ImageSize(96, 64)
    unsupported = (("resolution", ImageSize(64, 80)), ("window_size@64x96", 7))

    def test_weights_load_at_another_resolution(self):
        """As for a ViT."""


class TestWideMobileViT(VariantTestCase):
    spec = ModelSpec(MOBILEVIT, "none", WIDE, LOGITS)
    other_resolution = ImageSize(50, 30)
    unsupported = (("window_size", 7),)


def built(name, size=WIDE, weights="none", **changes):
    return backbones.find(name).build(ModelSpec(name, weights, size, LOGITS, **changes)).model


@pytest.mark.parametrize("name", SMALLER)
def test_the_exported_file_computes_what_torch_computes(name, tmp_path):
    with smaller_models(name, SMALLER[name]):
        report = write_onnx(built(name), (1, 3, *WIDE.sides), tmp_path / "model.onnx")
    assert report.parity_rel <= 1e-5
    shape = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape][1:] == [3, 64, 96]


# ---- multiply-accumulates, counted by hand


def counted(name, size=WIDE):
    return round(1e6 * macs.count(built(name, size), torch.zeros(1, 3, *size.sides))[0])


def test_macs_of_a_vit():
    patches, width, depth = 4 * 6, 192, 12
    sequence = patches + 1
    block = sequence * (4 * width**2 + 8 * width**2) + 2 * sequence**2 * width
    assert counted(VIT) == patches * 16 * 16 * 3 * width + depth * block + width * LOGITS


def test_macs_of_a_swin():
    """Its windows are two by three tokens everywhere, as an eighth of each side of the first map."""
    total, channels, patches = 16 * 24 * 4 * 4 * 3 * 96, 96, 16 * 24
    for depth in (2, 2, 6, 2):
        total += depth * patches * (12 * channels**2 + 2 * 6 * channels)
        if channels < 768:
            patches, channels = patches // 4, 2 * channels
            total += patches * (2 * channels) * channels
    assert counted(SWIN) == total + 768 * LOGITS


def test_macs_of_a_mobilevit():
    """Convolutions cost by the pixel. Of a map of 2 x 3, transformers see four columns, which patches divide."""

    def attending(maps):
        stages = zip((64, 80, 96), (2, 4, 3), maps, strict=True)
        return sum(
            depth * (places * 8 * width**2 + 2 * 4 * (places // 4) ** 2 * width) for width, depth, places in stages
        )

    square, head = ImageSize.square(64), 320 * LOGITS
    by_the_pixel = counted(MOBILEVIT, square) - attending((8 * 8, 4 * 4, 2 * 2)) - head
    assert counted(MOBILEVIT) == by_the_pixel * 3 // 2 + attending((8 * 12, 4 * 6, 2 * 4)) + head


# ---- fewer tokens


@pytest.mark.parametrize("method", ["topk", "evit", "tome"])
def test_a_wide_vit_drops_tokens_of_its_own_number(method):
    family, spec = backbones.find(VIT), ModelSpec(VIT, "none", WIDE, LOGITS)
    with smaller_models(VIT, {"depth": 4}):
        model = family.build(spec).model
        structure = family.block_structure(model, spec)
    assert (structure.tokens, structure.prefix_tokens) == (4 * 6 + 1, 1)
    left = tokens_left(method, 0.5, (1,), 4, 4 * 6, 1)
    blocks = tuple(ResolvedBlock(tuple(range(b.heads)), tuple(range(b.ffn_width))) for b in structure.blocks)
    before = macs.count(model, torch.zeros(1, 3, *WIDE.sides))[0]
    tokens.apply(model, ResolvedPlan(VIT, WIDE, None, blocks, left, method))
    assert macs.count(model.eval(), torch.zeros(1, 3, *WIDE.sides))[0] < before
    with torch.no_grad():
        assert model(torch.randn(2, 3, *WIDE.sides)).shape == (2, LOGITS)


# ---- weights that know positions


def saved(state, folder):
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return f"file:{path}"


def heights(grid):
    """A map whose values are the heights of its rows, from 0 to 1."""
    rows, columns = grid
    return ((torch.arange(rows) + 0.5) / rows).view(-1, 1).expand(rows, columns)


def with_heights(name, size):
    """The state of a ViT whose positions are the heights of the patches."""
    state = built(name, size).state_dict()
    rows = heights([side // 16 for side in size.sides]).reshape(1, -1, 1)
    state["pos_embed"][:, 1:] = rows.expand(-1, -1, state["pos_embed"].shape[2])
    return state


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((64, 96), (96, 144)),
        ((64, 96), (96, 64)),  # as many patches
        ((64, 96), 80),
        ((64, 144), 96),  # as many patches, of which nine look like a square
        (96, (64, 144)),
        ((64, 96), (64, 96)),
    ],
)
def test_positions_of_weights_of_a_study_go_from_grid_to_grid(old, new, tmp_path):
    old, new = ImageSize.of(old), ImageSize.of(new)
    with smaller_models(VIT, SMALLER[VIT]):
        state = with_heights(VIT, old)
        after = built(VIT, new, saved(state, tmp_path), trained_at=old).state_dict()["pos_embed"]
    assert torch.equal(after[:, :1], state["pos_embed"][:, :1])
    rows, columns = (side // 16 for side in new.sides)
    found = after[0, 1:, 0].view(rows, columns)
    torch.testing.assert_close(found, found[:, :1].expand(-1, columns), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, heights((rows, columns)), atol=0.1, rtol=0)


def test_positions_of_weights_of_a_square_go_to_a_grid_of_as_many_patches(tmp_path):
    """Those of timm and of users are of squares of the native size."""
    with smaller_models(VIT, SMALLER[VIT]):
        state = with_heights(VIT, ImageSize.square(224))
        after = built(VIT, ImageSize(112, 448), saved(state, tmp_path)).state_dict()["pos_embed"]
    torch.testing.assert_close(after[0, 1:, 0].view(7, 28), heights((7, 28)), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("old", "new"), [((64, 96), (96, 64)), ((64, 96), 128), (64, (64, 96)), ((64, 448), (64, 448))]
)
def test_biases_of_windows_of_a_study_go_from_window_to_window(old, new, tmp_path):
    """Windows of 2 x 14 have 81 distances, as those of 5 x 5 have."""
    old, new = ImageSize.of(old), ImageSize.of(new)
    with smaller_models(SWIN, SMALLER[SWIN]):
        model = built(SWIN, old)
        for stage in model.layers:
            for block in stage.blocks:
                table = block.attn.relative_position_bias_table
                rows, columns = (2 * side - 1 for side in block.window_size)
                down = torch.linspace(-1, 1, rows).view(-1, 1).expand(rows, columns).reshape(-1, 1)
                table.data.copy_(down.expand_as(table))
        after = built(SWIN, new, saved(model.state_dict(), tmp_path), trained_at=old)
    attention = after.layers[0].blocks[0].attn
    rows, columns = (2 * side - 1 for side in attention.window_size)
    found = attention.relative_position_bias_table.detach()[:, 0].view(rows, columns)
    torch.testing.assert_close(found, found[:, :1].expand(-1, columns), atol=1e-3, rtol=0)
    assert (found[1:, 0] >= found[:-1, 0] - 1e-3).all()
    assert (round(float(found[0, 0])), round(float(found[-1, 0]))) == (-1, 1)


@pytest.mark.parametrize(
    ("positions", "size", "grid"),
    [
        (49, 224, (7, 7)),
        (24, (64, 96), (4, 6)),
        (30, (72, 96), (5, 6)),  # rounded up
        (24, (72, 96), (4, 6)),  # rounded down
        (36, (64, 96), (6, 6)),  # of a window
        (64, (64, 256), (4, 16)),
        (6, 224, None),
        (0, 224, None),
    ],
)
def test_the_grid_of_a_table(positions, size, grid):
    assert grid_of(positions, ImageSize.of(size)) == grid


@pytest.mark.parametrize("shape", ["laid out", "channels first", "channels last"])
def test_tables_of_unknown_models_go_from_grid_to_grid(shape):
    class Net(nn.Module):
        def __init__(self, grid):
            super().__init__()
            values = heights(grid)
            axes = {
                "laid out": values.reshape(1, -1, 1).repeat(1, 1, 2),
                "channels first": values[None, None].repeat(1, 2, 1, 1),
                "channels last": values[None, ..., None].repeat(1, 1, 1, 2),
            }
            self.pos_embed = nn.Parameter(axes[shape])

    for old, new in (((4, 6), (6, 4)), ((8, 8), (4, 16)), ((4, 4), (4, 8)), ((4, 8), (8, 8))):
        sizes = ImageSize(old[0] * 16, old[1] * 16), ImageSize(new[0] * 16, new[1] * 16)
        after = resample_tables(Net(old).state_dict(), Net(new), *sizes)["pos_embed"]
        assert after.shape == Net(new).pos_embed.shape
        found = after[..., 0] if shape != "channels first" else after[:, 0]
        torch.testing.assert_close(found.reshape(new), heights(new), atol=0.1, rtol=0)


def test_biases_of_a_levit_of_a_study_go_from_map_to_map(tmp_path):
    name, old, new = "levit_128s", ImageSize(64, 256), ImageSize.square(128)
    model = built(name, old)
    for module in model.modules():
        if hasattr(module, "attention_biases") and module.attention_biases.shape[1] == 4 * 16:
            module.attention_biases.data.copy_(heights((4, 16)).reshape(1, -1).expand_as(module.attention_biases))
    after = built(name, new, saved(model.state_dict(), tmp_path), trained_at=old)
    found = after.stages[0].blocks[0].attn.attention_biases[0].view(8, 8)
    torch.testing.assert_close(found, heights((8, 8)), atol=0.1, rtol=0)


# ---- networks of the user's own


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, resolution):
        super().__init__()
        height, width = {sides}
        self.stem = nn.Conv2d(1, 8, 3, stride=4, padding=1)
        self.positions = nn.Linear(8 * (height // 4) * (width // 4), 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(self.positions(self.stem(x).flatten(1)).relu())

def make(classes, resolution):
    return Net(classes, resolution)
"""
ANY = "(resolution, resolution) if isinstance(resolution, int) else resolution"


def network(folder, sides, size, name):
    (folder / f"{name}.py").write_text(NET.format(sides=sides))
    return PythonFamily(PythonNetwork("ours", f"{name}:make", str(folder), ImageSize.of(size)))


def test_a_function_gets_height_and_width(tmp_path):
    family = network(tmp_path, ANY, (16, 24), "wide_network")
    assert family.supports("ours", "resolution", ImageSize(24, 16)) is None
    model = family.build(ModelSpec("ours", "none", ImageSize(24, 16), 5, 1)).model
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 24, 16)).shape == (2, 5)


def test_a_function_that_wants_a_number_refuses_a_rectangle(tmp_path):
    family = network(tmp_path, "(resolution + 0, resolution)", 16, "square_network")
    reason = family.supports("ours", "resolution", ImageSize(16, 24))
    assert reason.startswith("ours cannot be built at 16x24 pixels: ours: square_network:make failed: TypeError")
    with pytest.raises(PlanError, match="cannot be built at 16x24 pixels"):
        family.build(ModelSpec("ours", "none", ImageSize(16, 24), 5, 1))


def onnx_network(path, size):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 11, 3)).eval()
    torch.onnx.export(net, (torch.zeros(1, 3, 16, 24),), str(path), dynamo=False)
    return OnnxNetwork("theirs", str(path), "nchw", ImageSize.of(size)), net


def test_a_file_takes_images_of_its_own_shape(tmp_path):
    theirs, net = onnx_network(tmp_path / "theirs.onnx", (16, 24))
    family = OnnxFamily(theirs)
    model = family.build(ModelSpec("theirs", f"file:{theirs.path}", ImageSize(16, 24), 3)).model
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(model(images), net(images), atol=1e-5, rtol=0)
    assert family.supports("theirs", "resolution", ImageSize(24, 16)) == (
        "theirs is an ONNX file, which is run as it is: it takes images of 16x24 pixels"
    )


def test_a_file_of_another_shape_is_refused_with_its_own(tmp_path):
    theirs, _ = onnx_network(tmp_path / "theirs.onnx", 16)
    with pytest.raises(NetworkError, match=r"not images of 16 x 16 pixels; .*; write resolution: \[16, 24\]"):
        OnnxFamily(theirs).build(ModelSpec("theirs", f"file:{theirs.path}", ImageSize.square(16), 3))
