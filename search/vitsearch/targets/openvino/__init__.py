"""OpenVINO: a pair of IR files; int8 by NNCF."""

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import AgentRuntime, KnownBad, Target

TARGET = Target(
    name="openvino",
    title="OpenVINO",
    place=10,
    suffix=".xml",
    exporter="vitsearch.targets.openvino.exporter:OpenVinoExporter",
    example="vitsearch.targets.openvino.example:OpenVinoExample",
    metadata="vitsearch.targets.openvino.ir_file:write_metadata",
    shares="vitsearch.targets.openvino.shares:macs",
    structure="vitsearch.targets.openvino.ir_file:structure",
    on_device=(
        AgentRuntime(
            "openvino",
            provider_option="device",
            precision_option="inference_precision",
            precision_words={"fp32": "f32", "fp16": "f16", "int8_ptq": "f32", "int8_qat": "f32"},
            lists_providers="yes",
            lists_precisions=True,
        ),
    ),
    precisions=("fp32", "bf16", "fp16", "int8_ptq", "int8_qat"),
    providers={"cpu": "CPU", "gpu": "GPU", "npu": "NPU"},
    starts_from="onnx",
    refused={"int8_dynamic": "OpenVINO quantizes activations at run time for large language models only"},
    open_batch=True,
    quantized_ops={"int8_ptq": (ALL, LINEAR), "int8_qat": (LINEAR, ALL)},
    is_quick=True,
    known_bad=(
        KnownBad(
            ("int8_ptq", "int8_qat"),
            "int8 in name only, because only linear layers are quantized",
            "1% of the MACs of efficientvit_fmnist are in int8, 93% where NNCF quantizes convolutions too",
            "counted in files for openvino 2026.4, 2026-11-26",
            "arithmetic",
            backbones=("efficientvit_fmnist", "efficientvit_b*", "efficientvit_l*"),
            quantized_ops=LINEAR,
        ),
        KnownBad(
            ("fp16",),
            "a CPU without fp16 kernels computes in bf16 instead, and such a measurement is refused",
            "asked for f16, bf16 was used",
            "measured on a Zen 4 with AVX512-BF16, openvino 2026.4, 2026-11-24",
            "arithmetic",
            providers=("cpu",),
        ),
    ),
)
