"""torch's attention in a form whose heads can be cut: it equals torch's, whole and cut."""

import copy
import pickle

import pytest
import torch
from torch import nn

from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.surgery import unfused_attention
from vitsearch.structure.find import find_structure
from vitsearch.structure.head_rules import rule_for
from vitsearch.structure.head_rules.multihead import PlainMultihead, with_cut_heads

WIDTH, HEADS, IMAGES, QUERIES, KEYS = 32, 4, 2, 7, 5
NONE_OF_IT = torch.tensor([[False, False, False, True, True], [False, True, False, False, False]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(KEYS, dtype=torch.float64)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def attention(batch_first=True, bias=True, **options):
    torch.manual_seed(0)
    made = nn.MultiheadAttention(
        WIDTH, HEADS, batch_first=batch_first, bias=bias, dtype=torch.float64, **options
    ).eval()
    with torch.no_grad():
        for values in made.parameters():
            values.add_(torch.randn_like(values) * 0.1)
    return made


def inputs(kind):
    query, key, value = drawn(IMAGES, QUERIES, WIDTH), drawn(IMAGES, KEYS, WIDTH), drawn(IMAGES, KEYS, WIDTH)
    return {"self": (key, key, key), "cross": (query, key, key), "three": (query, key, value)}[kind]


MASKS = {
    "self": ("self", {}),
    "cross": ("cross", {}),
    "three": ("three", {}),
    "bool mask": ("three", {"attn_mask": torch.arange(35).reshape(7, 5) % 4 == 1}),
    "float mask": ("cross", {"attn_mask": torch.arange(35.0, dtype=torch.float64).reshape(7, 5).sin()}),
    "mask of each head": ("cross", {"attn_mask": torch.arange(280.0, dtype=torch.float64).reshape(8, 7, 5).sin()}),
    "bool mask of each head": ("three", {"attn_mask": torch.arange(280).reshape(8, 7, 5) % 4 == 1}),
    "padding": ("cross", {"key_padding_mask": NONE_OF_IT}),
    "float padding": ("cross", {"key_padding_mask": torch.arange(10.0, dtype=torch.float64).reshape(2, 5).sin()}),
    "padding and mask": (
        "self",
        {"key_padding_mask": NONE_OF_IT, "attn_mask": torch.eye(KEYS).roll(-1, 0).bool()},
    ),
    "causal": ("self", {"attn_mask": CAUSAL, "is_causal": True}),
    "causal mask alone": ("self", {"attn_mask": CAUSAL}),
}


def output(module, arguments, named, **options):
    torch.manual_seed(1)  # the same of it is dropped
    return module(*arguments, **named, **options)


def assert_equal(ours, torchs):
    for one, other in zip(ours, torchs, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_torchs_whatever_it_is_given(case, batch_first, bias):
    whole = attention(batch_first, bias, dropout=0.3)
    plain = with_cut_heads(copy.deepcopy(whole))
    assert type(plain) is PlainMultihead
    assert plain.state_dict().keys() == whole.state_dict().keys()
    kind, masks = MASKS[case]
    given = inputs(kind)
    if not batch_first:
        turned = {id(values): values.transpose(0, 1) for values in given}
        given = tuple(turned[id(values)] for values in given)
    for options in (
        {"need_weights": False},
        {"need_weights": True},
        {"need_weights": True, "average_attn_weights": False},
    ):
        for is_trained in (False, True):
            torchs = output(whole.train(is_trained), given, masks, **options)
            assert_equal(output(plain.train(is_trained), given, masks, **options), torchs)
            with unfused_attention(plain):
                assert_equal(output(plain, given, masks, **options), torchs)
        with torch.no_grad():  # torch's is one fused operator there
            torchs = output(whole.eval(), given, masks, **options)
            assert_equal(output(plain.eval(), given, masks, **options), torchs)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "masks",
    [{}, {"key_padding_mask": NONE_OF_IT[0]}, {"attn_mask": drawn(HEADS, QUERIES, KEYS)}],
    ids=["", "padding", "mask of each head"],
)
def test_an_image_without_a_batch_equals_torchs(batch_first, need_weights, masks):
    whole = attention(batch_first)
    given = [values[0] for values in inputs("three")]
    torchs = output(whole, given, masks, need_weights=need_weights)
    assert_equal(output(with_cut_heads(copy.deepcopy(whole)), given, masks, need_weights=need_weights), torchs)


def test_it_is_pickled_as_itself():
    plain = with_cut_heads(attention())
    again = pickle.loads(pickle.dumps(plain))
    assert type(again) is PlainMultihead
    given = inputs("self")
    assert_equal(again(*given), plain(*given))


def test_it_learns_as_torchs_does():
    whole, given = attention(), inputs("self")
    plain = with_cut_heads(copy.deepcopy(whole))
    for module in (whole, plain):
        module.train()(*given)[0].square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize(
    "options",
    [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 16}, {"vdim": 24}, {"kdim": 16, "vdim": 24}],
    ids=str,
)
def test_what_it_cannot_cut_stays_torchs(options):
    whole = with_cut_heads(attention(**options))
    assert type(whole) is nn.MultiheadAttention
    assert rule_for(whole).heads(whole) == 0


def test_a_subclass_stays_as_its_author_wrote_it():
    class Own(nn.MultiheadAttention):
        pass

    own = with_cut_heads(Own(WIDTH, HEADS))
    assert type(own) is Own
    assert rule_for(own) is None


@pytest.mark.parametrize("layer", ["encoder", "encoder, norm first", "decoder"])
def test_the_layers_of_torch_around_it_equal_themselves(layer):
    torch.manual_seed(0)
    options = {"dim_feedforward": 48, "batch_first": True, "dtype": torch.float64}
    if layer == "decoder":
        whole, given = nn.TransformerDecoderLayer(WIDTH, HEADS, **options), (inputs("self")[0], inputs("cross")[0])
    else:
        layers = nn.TransformerEncoderLayer(WIDTH, HEADS, norm_first="first" in layer, **options)
        whole = nn.TransformerEncoder(layers, 2, enable_nested_tensor=False)
        given = inputs("self")[:1]
    plain = with_cut_heads(copy.deepcopy(whole.eval()))
    assert any(isinstance(part, PlainMultihead) for part in plain.modules())
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert_equal([plain(*given)], [whole(*given)])
    attentions = [part for part in plain.modules() if isinstance(part, PlainMultihead)]
    for part in attentions:
        rule_for(part).keep(part, (1, 3))
    with torch.no_grad():
        assert plain(*given).shape == whole(*given).shape


def masked(whole, kept):
    """A copy of torch's own module that gives nothing of the other heads: the columns that read them are zero."""
    copied = copy.deepcopy(whole)
    with torch.no_grad():
        columns = copied.out_proj.weight.view(WIDTH, HEADS, -1)
        columns[:, sorted({*range(HEADS)} - {*kept})] = 0
    return copied


@pytest.mark.parametrize("kept", [(0, 1, 2), (1, 3), (2,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", ["self", "three", "padding and mask", "float mask"])
def test_a_cut_one_equals_torchs_with_masked_heads_also_after_a_second_cut(kept, bias, case):
    whole = attention(bias=bias)
    cut = with_cut_heads(copy.deepcopy(whole))
    rule = rule_for(cut)
    kind, masks = MASKS[case]
    given = inputs(kind)
    rule.keep(cut, kept)
    assert rule_for(cut) is rule
    assert rule.heads(cut) == len(kept)
    assert cut.in_proj_weight.shape == (3 * len(kept) * 8, WIDTH)
    assert cut.out_proj.in_features == len(kept) * 8
    expected, weights = output(masked(whole, kept), given, masks, average_attn_weights=False)
    assert_equal(output(cut, given, masks, average_attn_weights=False), (expected, weights[:, list(kept)]))
    assert_equal(output(cut, given, masks, need_weights=False), (expected, None))
    rule.keep(cut, (len(kept) - 1,))
    expected, _ = output(masked(whole, kept[-1:]), given, masks, need_weights=False)
    assert_equal(output(cut, given, masks, need_weights=False), (expected, None))


class Vit(nn.Module):
    """A network around one attention."""

    def __init__(self, batch_first=True, **options):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, WIDTH, 4, 4), nn.Linear(WIDTH, 5)
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, **options)

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        given = tokens if self.attend.batch_first else tokens.transpose(0, 1)
        attended = self.attend(given, given, given)[0]
        tokens = tokens + (attended if self.attend.batch_first else attended.transpose(0, 1))
        return self.out(tokens.mean(1))


@pytest.mark.parametrize("batch_first", [True, False])
def test_its_heads_are_found_where_its_parent_does_not_read_the_weights(batch_first):
    structure = find_structure(with_cut_heads(Vit(batch_first)), torch.randn(1, 3, 16, 16))
    assert [(part.heads.scope, part.heads.count, part.heads.head_dim) for part in structure.parts] == [("attend", 4, 8)]
    assert not [it for it in structure.refusals if it.kind == "heads"]


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
def test_heads_of_one_that_stays_are_refused_by_name(options):
    structure = find_structure(with_cut_heads(Vit(**options)), torch.randn(1, 3, 16, 16))
    assert not [part for part in structure.parts if part.heads]
    (refusal,) = (it for it in structure.refusals if it.kind == "heads")
    assert (refusal.scope, refusal.type) == ("attend", "MultiheadAttention")
    assert "more tokens than its input" in refusal.reason


@pytest.mark.parametrize("kept", [range(4), (1, 3)], ids=["whole", "cut"])
@pytest.mark.parametrize("exporter", [TORCHSCRIPT, DYNAMO], ids=["torchscript", "dynamo"])
def test_its_file_gives_what_it_gives(kept, exporter, tmp_path):
    import onnxruntime

    model = with_cut_heads(Vit()).eval()
    rule_for(model.attend).keep(model.attend, kept)
    images = torch.randn(2, 3, 16, 16)
    write_onnx(model, (2, 3, 16, 16), tmp_path / "model.onnx", exporter=exporter)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), atol=1e-5, rtol=1e-5)
