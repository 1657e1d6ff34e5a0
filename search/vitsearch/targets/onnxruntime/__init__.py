"""onnxruntime: ONNX at every precision, and files for the NPUs of Qualcomm."""

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import AgentRuntime, Converter, FusedOperators, KnownBad, Npu, Target

QNN = "qnn"
"""onnxruntime's provider for the NPUs of Qualcomm."""
_NOT_FUSED = "16-bit activations are fused on NPUs alone; elsewhere each operator computes in fp32 between conversions"
_NO_PAIRS = "Qualcomm's NPU reads pairs of QuantizeLinear and DequantizeLinear around every operator, which it lacks"
_ON_EPYC = "measured on an AMD EPYC with AVX512-VNNI, onnxruntime 1.32.0, 2026-11-26; docs/benchmarks/runtimes.md"
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    QNN: "QNNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}

TARGET = Target(
    name="onnxruntime",
    title="onnxruntime",
    place=0,
    suffix=".onnx",
    exporter="vitsearch.targets.onnxruntime.exporter:OnnxRuntimeExporter",
    example="vitsearch.targets.onnxruntime.example:OnnxRuntimeExample",
    metadata="vitsearch.export.metadata:in_onnx",
    shares="vitsearch.targets.onnxruntime.shares:macs",
    structure="vitsearch.export.structure:of_onnx",
    # It converts fp16 where it has no kernels, so its list of precisions is not complete.
    on_device=(AgentRuntime("onnxruntime", provider_option="provider", lists_providers="yes"),),
    precisions=("fp32", "fp16", "int8_dynamic", "int8_ptq", "int8_qat", "int8_weights", "int8_mixed", "w8a16"),
    providers=_PROVIDERS,
    starts_from="onnx",
    refused={"bf16": "onnxruntime has no bf16 kernels on CPUs (MatMul, Conv and Softmax are not implemented)"},
    refused_on={name: {"w8a16": _NOT_FUSED} for name in _PROVIDERS if name != QNN}
    | {QNN: dict.fromkeys(("int8_dynamic", "int8_qat", "int8_weights", "int8_mixed"), _NO_PAIRS)},
    open_batch=True,
    threaded=frozenset({"cpu", "xnnpack", "openvino"}),
    quantized_ops={
        "int8_dynamic": (LINEAR,),
        "int8_ptq": (LINEAR, ALL),
        "int8_qat": (LINEAR, ALL),
        "int8_mixed": (LINEAR,),
    },
    npus={QNN: Npu("onnxruntime-qnn", "vitsearch_agent.runtimes.ort_qnn:is_emulated")},
    same_graph={"int8_qat": "int8_ptq"},
    # MultiHeadAttention came to CPUs in 1.15 and is used since 1.17.
    fused=FusedOperators("cpu", (1, 17), not_in=frozenset({"fp16"})),
    domain="com.microsoft",
    is_quick=True,
    converters={
        # onnxruntime-qnn has no requirements of its own; it loads into the onnxruntime that it was built for or a newer
        "qnn": Converter(
            ("onnxruntime-qnn>=2.7,<2.8", "onnxruntime>=1.32,<2"),
            "about 0.5 GB",
            "vitsearch.targets.onnxruntime.qnn.contexts:verify",
        ),
    },
    known_bad=(
        KnownBad(
            ("fp16",),
            "onnxruntime has no fp16 kernels on CPUs, casts to fp32 and back, and only the file is smaller",
            "0.98 to 1.12 times the CPU time of fp32 for the three models of the quickstart",
            _ON_EPYC,
            "time",
            providers=("cpu",),
        ),
        KnownBad(
            ("int8_weights",),
            "onnxruntime multiplies weights of 8 bits by blocks, and rounds activations to int8 although only the file "
            "was to be small",
            "0.97, 1.9 and 5.8 times the CPU time of fp32 for vit_fmnist_p4, mobilevit_fmnist and efficientvit_fmnist",
            _ON_EPYC,
            "time",
            providers=("cpu",),
        ),
        KnownBad(
            ("int8_dynamic", "int8_ptq", "int8_qat", "int8_mixed"),
            "int8 in name only, because only linear layers are quantized",
            "1% of the MACs of efficientvit_fmnist are in int8, 3% of efficientvit_b0, less of efficientvit_m0, "
            "efficientformerv2_s0, fastvit_t8, mobilevitv2_050 and repvit_m0_9",
            "counted in files of int8_dynamic for onnxruntime 1.32.0, 2026-11-26",
            "arithmetic",
            backbones=(
                "efficientvit_fmnist",
                "efficientvit_[blm]*",
                "efficientformerv2_*",
                "fastvit_t*",
                "mobilevitv2_*",
                "repvit_*",
            ),
            quantized_ops=LINEAR,
        ),
    ),
)
