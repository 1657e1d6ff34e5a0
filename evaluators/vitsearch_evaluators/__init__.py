"""Measure exported models on the device that this package runs on.

`vitsearch-agent serve` runs the agent; `DeviceClient` talks to it; `EmbeddedAgent` starts one on
this machine. Nothing outside the standard library is imported, except by the runtimes, and those
are loaded only in the measuring child process.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitsearch_evaluators.client.client import DeviceClient, RequestOptions, Subset
    from vitsearch_evaluators.client.embedded_agent import EmbeddedAgent
    from vitsearch_evaluators.errors import EvaluatorError, MeasurementFailed
    from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN, DeviceInfo, Measurement, MeasureProtocol

__version__ = "0.1.0"

__all__ = [
    "CONFIRM",
    "DeviceClient",
    "DeviceInfo",
    "EmbeddedAgent",
    "EvaluatorError",
    "MeasureProtocol",
    "Measurement",
    "MeasurementFailed",
    "RequestOptions",
    "SCREEN",
    "Subset",
    "__version__",
]
_HOMES = {
    "DeviceClient": "client.client",
    "EmbeddedAgent": "client.embedded_agent",
    "EvaluatorError": "errors",
    "MeasurementFailed": "errors",
    "Subset": "client.client",
    "RequestOptions": "client.client",
}


class _Package(types.ModuleType):
    """Imports what is asked for when it is: the measuring child needs no client and no HTTP, and each
    child would pay for them. (A module's own `__getattr__` is known from Python 3.7 on.)"""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'wire.protocol')}"), name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Package
