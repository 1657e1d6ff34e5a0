import pytest
import torch
from timm.models.efficientvit_mit import LiteMLA

from vitsearch.export.graph.module_rewrites import export_forms


@pytest.mark.parametrize("pixels", [2, 4, 7])
@pytest.mark.parametrize("scales", [(5,), (3, 5)])
def test_linear_attention_has_the_same_numbers_with_fewer_and_with_more_tokens_than_channels(pixels, scales):
    torch.manual_seed(0)
    attention = LiteMLA(32, 32, dim=16, scales=scales).eval()
    images = torch.randn(2, 32, pixels, pixels)
    with torch.inference_mode():
        expected = attention(images)
        with export_forms(attention):
            actual = attention(images)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_module_is_itself_again_after_an_error():
    attention = LiteMLA(32, 32, dim=16)
    with pytest.raises(KeyError), export_forms(attention):
        raise KeyError
    assert "forward" not in vars(attention)
