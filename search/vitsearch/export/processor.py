"""What the processor of this machine computes otherwise than in torch."""

from __future__ import annotations

import torch

EXACT_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")


def saturates_int8() -> bool:
    """Whether onnxruntime adds pairs of u8 x s8 products in 16 bits here, where large ones saturate: on x86 processors
    without VNNI (onnxruntime's documentation, "Quantize ONNX models", section on reduce_range)."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    is_x86 = capabilities.get("architecture") in ("x86_64", "x86", "AMD64")
    return is_x86 and not any(capabilities.get(name) for name in EXACT_INT8)
