"""The tables of capabilities agree with `supports`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import REPOSITORY
from vitsearch import backbones
from vitsearch.cli import capabilities
from vitsearch.errors import UnknownName


def test_every_family_has_an_example():
    families = {backbones.find(name).family for name in capabilities.examples()}
    assert families >= set(backbones.FAMILIES.names())


def cells(text: str, first: str) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    heads = next(line for line in lines if line[0] in ("backbone", "runtime") and first)
    row = next(line for line in lines if line[0] == first)
    if first == "onnxruntime":
        heads = next(line for line in lines if line[0] == "runtime")
    return dict(zip(heads, row, strict=True))


def test_an_unsupported_operator_has_the_number_of_its_reason():
    text = capabilities.describe(["mobilevitv2_050", "deit_tiny_patch16_224"])
    seen = cells(text, "mobilevitv2_050")
    assert (seen["family"], seen["hidden channels"]) == ("mobilevit", "yes")
    number = seen["heads"].removeprefix("no [").removesuffix("]")
    assert f"{number}. attends with a single head" in text
    assert cells(text, "deit_tiny_patch16_224")["heads"] == "yes"


def test_equal_reasons_are_listed_once():
    text = capabilities.describe(["mobilevit_xxs", "mobilevit_xs"])
    assert cells(text, "mobilevit_xxs")["windows"] == cells(text, "mobilevit_xs")["windows"]
    reasons = text.partition("Reasons:")[2].split("\n")
    assert len(reasons) == len({reason.partition(". ")[2] for reason in reasons if reason}) + 2


def test_precisions_of_a_runtime():
    assert cells(capabilities.describe([]), "onnxruntime")["fp32"] == "yes"


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UnknownName):
        capabilities.describe(["deit_tiny_patch61_224"])


def test_a_model_without_a_family_has_what_was_found_and_its_exporter():
    (line,) = [line for line in capabilities.describe(["csatv2"]).splitlines() if line.startswith("- csatv2: ")]
    assert line.startswith("- csatv2: hidden channels of ")
    assert line.endswith("(aten::adaptive_avg_pool2d)")


def test_a_model_of_which_no_file_can_be_written_has_nothing_but_the_reason():
    text = capabilities.describe(["mobilenetv5_300m_enc", "vit_giant_patch14_dinov2"])
    for name, reason in (("mobilenetv5_300m_enc", "not a classifier"), ("vit_giant_patch14_dinov2", "2.1 GB")):
        row = cells(text, name)
        number = row["heads"].removeprefix("no [").removesuffix("]")
        assert row["sparsity"] == row["tokens"] == row["heads"] == f"no [{number}]"
        assert any(line.startswith(f"{number}. ") and reason in line for line in text.splitlines())


def test_a_glob_stands_for_the_names_that_match():
    assert capabilities.expanded(["efficientvit_b[01]", "efficientvit_b0", "resnet18"]) == (
        "efficientvit_b0",
        "efficientvit_b1",
        "resnet18",
    )


def test_the_capabilities_page_is_current():
    """Update the page with the output of: vitsearch capabilities."""
    page = Path(REPOSITORY, "docs") / "capabilities.md"
    assert page.read_text().rstrip().endswith(capabilities.describe(capabilities.examples()).rstrip())
