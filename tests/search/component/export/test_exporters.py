"""Every exporter passes the conformance test that other packages import."""

import pytest

from vitsearch.testing.exporters import ExporterTests


class TestOnnxRuntime(ExporterTests):
    runtime = "onnxruntime"


class TestOpenVino(ExporterTests):
    runtime = "openvino"


@pytest.mark.long
class TestLiteRt(ExporterTests):
    runtime = "litert"


@pytest.mark.long
class TestExecuTorch(ExporterTests):
    runtime = "executorch"


class TestTensorRt(ExporterTests):
    runtime = "tensorrt"


@pytest.mark.long
class TestCoreMl(ExporterTests):
    runtime = "coreml"
