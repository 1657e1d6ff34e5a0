"""Core ML: programs as pairs of files."""

from vitsearch.core.targets import AgentRuntime, KnownBad, Target

TARGET = Target(
    name="coreml",
    title="Core ML",
    place=50,
    suffix=".mlmodel",
    exporter="vitsearch.targets.coreml.exporter:CoreMlExporter",
    example="vitsearch.targets.coreml.example:CoreMlExample",
    metadata="vitsearch.targets.coreml.exporter:write_metadata",
    on_device=(AgentRuntime("coreml", provider_option="compute_units", lists_providers="yes"),),
    precisions=("fp32", "fp16", "int8_weights", "palette4"),
    providers={"all": "all", "cpu": "cpu", "gpu": "cpu_and_gpu", "ane": "cpu_and_ane"},
    starts_from="torch",
    threaded=frozenset(),
    paired=frozenset(),
    runs_here=False,
    known_bad=(
        KnownBad(
            ("palette4",),
            "a program with 4-bit palettes gave wrong outputs, which the stand-in that is judged cannot show; ask the "
            "device for accuracy_images",
            "cosine with the fp16 outputs 0.63 on the Neural Engine and 0.03 on the CPU, where a file without palettes "
            "had 0.9999 (Qwen3-Embedding-0.6B)",
            "published: apple/coremltools issue 2716, comment of 2026-09-23: coremltools 9.0, macOS 26.6.2, Apple M4",
            "outputs",
            providers=("all", "ane", "cpu"),
        ),
        KnownBad(
            ("int8_weights",),
            "8-bit weights with a scale for each channel gave wrong outputs on GPU and Neural Engine, which the "
            "stand-in that is judged cannot show; ask the device for accuracy_images",
            "one value for all pixels on the GPU and infinity on the Neural Engine (MiDaS, coremltools 7.1), but a "
            "cosine of 0.9992 with the fp16 outputs for Qwen3-Embedding-0.6B (coremltools 9.0)",
            "published: apple/coremltools issues 2114, 2024-01-17, and 2716, comment of 2026-09-23",
            "outputs",
            providers=("all", "ane", "gpu"),
        ),
    ),
)
