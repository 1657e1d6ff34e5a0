"""The chips of Qualcomm that context files are compiled for, and the numbers by which the compiler has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vitsearch.errors import UnknownName


@dataclass(frozen=True)
class Chip:
    """A chip: its `soc_model` in Qualcomm's SDK, and the version of its NPU (Hexagon v75: 75)."""

    name: str
    soc_model: int
    htp_arch: int
    product: str

    @property
    def options(self) -> dict[str, str]:
        """Those of the provider."""
        return {"soc_model": str(self.soc_model), "htp_arch": str(self.htp_arch)}


# soc_model and htp_arch: `QcomChipset` and `_soc_info_table` in ExecuTorch's backends/qualcomm/serialization/
# qc_schema.py, which Qualcomm maintains (https://github.com/pytorch/executorch, commit 0e9182a36b). The names of
# products: https://www.qualcomm.com/smartphones/products and Qualcomm's pages of the chips. Each was compiled for once,
# with onnxruntime-qnn 2.7.0 on x86-64 (2026-12-01); none was run on its chip.
_CHIPS = (
    Chip("sm8350", 30, 68, "Snapdragon 888"),
    Chip("sm8450", 36, 69, "Snapdragon 8 Gen 1"),
    Chip("sm8475", 42, 69, "Snapdragon 8+ Gen 1"),
    Chip("sm8550", 43, 73, "Snapdragon 8 Gen 2"),
    Chip("sm8650", 57, 75, "Snapdragon 8 Gen 3"),
    Chip("sm8750", 69, 79, "Snapdragon 8 Elite"),
    Chip("sm8850", 87, 81, "Snapdragon 8 Elite Gen 5"),
    Chip("qcm6490", 93, 68, "Dragonwing QCM6490"),
    Chip("qcs9100", 77, 73, "Dragonwing IQ-9"),
)
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in _CHIPS})


def chip_of(name: str) -> Chip:
    """The chip of a name; `UnknownName` with the list of those that are supported."""
    if name not in CHIPS:
        raise UnknownName("chip", name, CHIPS)
    return CHIPS[name]
