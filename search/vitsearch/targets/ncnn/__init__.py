"""ncnn: a text of layers (.param) with their weights (.bin), by pnnx from torch's own trace."""

from vitsearch.core.targets import AgentRuntime, KnownBad, Target

_NO_TOOL = "ncnn's wheel has no tool that writes int8"

TARGET = Target(
    name="ncnn",
    title="ncnn",
    place=35,
    suffix=".param",
    exporter="vitsearch.targets.ncnn.exporter:NcnnExporter",
    example="vitsearch.targets.ncnn.exporter:NcnnExample",
    metadata="vitsearch.targets.ncnn.exporter:write_metadata",
    shares="vitsearch.targets.ncnn.exporter:macs",
    on_device=(AgentRuntime("ncnn", precision_option="precision", lists_precisions=True),),
    precisions=("fp32", "fp16"),
    providers={"cpu": "cpu"},
    starts_from="torch",
    refused={
        "bf16": "an EfficientViT whose activations are stored in bf16 gives NaN (ncnn 1.0.20261020)",
        "int8_ptq": _NO_TOOL,
        "int8_dynamic": _NO_TOOL,
        "int8_qat": _NO_TOOL,
    },
    unbuilt={"gpu": "ncnn reaches GPUs through Vulkan, with which nothing here was run"},
    known_bad=(
        KnownBad(
            ("fp16",),
            "ncnn has no fp16 arithmetic on x86, where only the file is smaller",
            "half the file; its outputs are, to the bit, those that ncnn gives for it with its options of fp16 off",
            "a ViT, a MobileNetV3 and an EfficientViT, measured on an Intel Xeon with AVX512-FP16, ncnn 1.0.20261020, "
            "2026-12-04",
            "arithmetic",
        ),
    ),
)
