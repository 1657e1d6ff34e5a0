"""How a model is run without vitsearch: a Python example, the command line of the runtime's own tool, and what else its
runtime gives (`vitsearch.targets.NAME.example`)."""

from __future__ import annotations

import inspect
from importlib import resources
from string import Template

from vitsearch.core.targets import TARGETS
from vitsearch.export.bundle_example import BundleExample, batch
from vitsearch.registry import loaded
from vitsearch.ship.bundled_model import BundledModel
from vitsearch.tasks.segmentation import pictures
from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli.terminal import say

_TEMPLATES = {
    "classification": "example.py.in",
    "embedding": "example_embedding.py.in",
    "segmentation": "example_segmentation.py.in",
}
"""The example in Python by the task; any other task gets one that prints the shape of the outputs."""


def example_of(model: BundledModel) -> BundleExample:
    """What the runtime of a model says of it; of a runtime of another package nothing is known."""
    target = TARGETS.get(model.deployment.runtime)
    example: type[BundleExample] = BundleExample if target is None else loaded(target.example)
    return example()


def python_example(model: BundledModel) -> str | None:
    """The content of `example.py`; None for a runtime without an example."""
    example = example_of(model).python(model)
    if example is None:
        return None
    fields = {"imports": example.imports, "open": example.open, "run": example.run, "batch": batch(model)}
    fields["printable"] = inspect.getsource(printable).rstrip()
    fields["say"] = inspect.getsource(say).rstrip()
    fields["palette"] = inspect.getsource(pictures.palette).rstrip()
    fields["output"] = model.task.output
    name = _TEMPLATES.get(model.task.kind, "example_outputs.py.in")
    return Template((resources.files("vitsearch") / "ship" / "templates" / name).read_text()).substitute(fields)


def packages(model: BundledModel) -> tuple[str, ...]:
    """The packages that `example.py` needs, as lines of a requirements file."""
    example = example_of(model).python(model)
    return () if example is None else ("numpy", "pillow", *example.packages)
