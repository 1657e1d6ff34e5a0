"""ExecuTorch: programs with XNNPACK's delegate."""

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import AgentRuntime, Target

TARGET = Target(
    name="executorch",
    title="ExecuTorch",
    place=30,
    suffix=".pte",
    exporter="vitsearch.targets.executorch.exporter:ExecuTorchExporter",
    example="vitsearch.targets.executorch.example:ExecuTorchExample",
    metadata="vitsearch.export.metadata:behind",
    shares="vitsearch.targets.executorch.shares:macs",
    on_device=(AgentRuntime("executorch", lists_providers="yes"),),  # the file says what its delegate computes
    precisions=("fp32", "int8_ptq"),
    providers={"cpu": "XnnpackBackend"},
    starts_from="torch",
    refused={
        "int8_dynamic": "an EfficientViT whose layers are quantized at run time fails when ExecuTorch 1.5 runs it",
        "int8_qat": "ExecuTorch's quantizer finds its own ranges and does not take those that were learned",
    },
    quantized_ops={"int8_ptq": (ALL, LINEAR)},
    lowering_cpu_s=(8, 110),
)
