"""TensorRT: ONNX with its types, and Q/DQ or scales for int8."""

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import AgentRuntime, KnownBad, Target

TARGET = Target(
    name="tensorrt",
    title="TensorRT",
    place=40,
    suffix=".onnx",
    exporter="vitsearch.targets.tensorrt.exporter:TensorRtExporter",
    example="vitsearch.targets.tensorrt.example:TensorRtExample",
    metadata="vitsearch.export.metadata:in_onnx",
    shares="vitsearch.targets.tensorrt.shares:macs",
    structure="vitsearch.export.structure:of_onnx",
    on_device=(
        AgentRuntime(
            "trtexec",
            precision_option="precision",
            precision_words={"int8_ptq": "int8", "int8_qat": "int8"},
            lists_precisions=True,
        ),
    ),
    precisions=("fp32", "fp16", "int8_ptq", "int8_qat"),
    providers={"gpu": "gpu"},
    starts_from="onnx",
    threaded=frozenset(),
    paired=frozenset(),
    quantized_ops={"int8_ptq": (ALL, LINEAR), "int8_qat": (ALL, LINEAR)},
    same_graph={"int8_qat": "int8_ptq"},
    is_versioned=True,
    runs_here=False,
    known_bad=(
        KnownBad(
            ("int8_*",),
            "attention of a ViT is fused in int8 under narrow conditions only, so int8 is often no faster than fp16",
            "FasterViT-0 on a T4: 1.461 against 1.364 ms; ViT-L: 131.8 against 65.6 ms",
            "published: NVIDIA/TensorRT issues 3186 and 4273, NVIDIA/Model-Optimizer issue 167",
            "time",
            "fp16",
            ("vit_*", "deit*"),
        ),
    ),
)
