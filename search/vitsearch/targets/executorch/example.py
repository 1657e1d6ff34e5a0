"""How an ExecuTorch program is run without vitsearch."""

from __future__ import annotations

from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample, pinned, threads

_OTHER_LANGUAGES = (
    "Apps run the same `model.pte` with ExecuTorch's runtime: in C++ by `Module` (`extension/module`), linked with the",
    "XNNPACK backend and the portable kernels; in Kotlin by `Module` of `org.pytorch:executorch-android`; in Swift by",
    "`Module` of its Swift package. The method is `forward`. Its input and output have no names; the input is float32,",
    "as `preprocessing.py` makes it.",
)


class ExecuTorchExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample:
        """Without `executorch.runtime`, which takes three seconds to import and has no number of threads."""
        opened = (
            f"_C._unsafe_reset_threadpool({threads(model)})\n"
            'PROGRAM = _C._load_program(os.path.join(HERE, "model.pte"))\n'
            'METHOD = PROGRAM.load_method("forward")'
        )
        imports = "import torch\nfrom executorch.extension.pybindings import _C"
        run = "METHOD.call([torch.from_numpy(images)])[0].numpy()[0]"
        return PythonExample(imports, opened, run, (pinned("executorch", model), "torch"))

    def notes(self, model: MeasuredModel) -> tuple[tuple[str, ...], ...]:
        return (_OTHER_LANGUAGES,)
