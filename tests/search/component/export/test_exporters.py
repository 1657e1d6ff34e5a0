"""Every exporter passes the conformance test that other packages import."""

from vitsearch.testing.exporters import ExporterTests


class TestOnnxRuntime(ExporterTests):
    runtime = "onnxruntime"


class TestOpenVino(ExporterTests):
    runtime = "openvino"


class TestLiteRt(ExporterTests):
    runtime = "litert"


class TestTensorRt(ExporterTests):
    runtime = "tensorrt"


class TestCoreMl(ExporterTests):
    runtime = "coreml"
