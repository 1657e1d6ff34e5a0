"""Which processors saturate products of int8."""

from __future__ import annotations

import pytest
import torch

from vitsearch.export.processor import saturates_int8


@pytest.mark.parametrize(
    ("capabilities", "saturates"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "x86_64", "avx_vnni": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_only_x86_without_vnni_saturates(monkeypatch, capabilities, saturates):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert saturates_int8() == saturates
