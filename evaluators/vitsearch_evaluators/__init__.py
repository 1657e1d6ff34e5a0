"""Measure exported models on the device that this package runs on.

`vitsearch-agent serve` runs the agent; `DeviceClient` talks to it; `EmbeddedAgent` starts one on
this machine. Nothing outside the standard library is imported, except by the runtimes, and those
are loaded only in the measuring child process.
"""

__version__ = "0.1.0"

from vitsearch_evaluators.client import DeviceClient
from vitsearch_evaluators.embedded import EmbeddedAgent
from vitsearch_evaluators.errors import EvaluatorError, MeasurementFailed
from vitsearch_evaluators.protocol import CONFIRM, SCREEN, DeviceInfo, Measurement, MeasureProtocol

__all__ = [
    "CONFIRM",
    "DeviceClient",
    "DeviceInfo",
    "EmbeddedAgent",
    "EvaluatorError",
    "MeasureProtocol",
    "Measurement",
    "MeasurementFailed",
    "SCREEN",
    "__version__",
]
