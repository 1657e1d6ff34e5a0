"""LiteRT: TFLite, by litert-torch in an environment of its own."""

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import AgentRuntime, Converter, Target

TARGET = Target(
    name="litert",
    title="LiteRT",
    place=20,
    suffix=".tflite",
    exporter="vitsearch.targets.litert.exporter:LiteRtExporter",
    example="vitsearch.targets.litert.example:LiteRtExample",
    metadata="vitsearch.export.metadata:behind",
    shares="vitsearch.targets.litert.shares:macs",
    on_device=(
        AgentRuntime("litert", provider_option="delegate", lists_providers="cpu alone"),
        AgentRuntime("benchmark_model", provider_option="delegate", lists_providers="where known"),
    ),
    precisions=("fp32", "int8_dynamic", "int8_ptq", "int8_weights"),
    providers={"cpu": "xnnpack", "gpu": "gpu", "nnapi": "nnapi"},
    starts_from="torch",
    refused={
        "int8_qat": "LiteRT's converter moves the scale of a LayerNorm into the weights of the next layer, so the "
        "ranges that were learned for its input do not fit; int8_dynamic finds them at run time"
    },
    unbuilt={
        "npu": "LiteRT reaches NPUs through its CompiledModel interface alone, and vitsearch runs its Interpreter",
    },
    quantized_ops={"int8_dynamic": (LINEAR,), "int8_ptq": (ALL, LINEAR)},
    converters={
        "litert": Converter(
            ("litert-torch>=0.10,<0.11", "ai-edge-quantizer>=0.10,<0.11", "ai-edge-litert>=2.3,<2.4"),
            "about 2 GB, some minutes",
            "vitsearch.targets.litert.exporter:verify",
            reads_torch=True,
        ),
    },
)
