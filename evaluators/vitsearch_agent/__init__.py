"""Measure exported models on the device that this package runs on.

`vitsearch-agent serve` runs the agent, `DeviceClient` talks to it, and `EmbeddedAgent` starts an agent on
this machine. Only the runtimes import anything outside the standard library, and only the measuring child
process loads a runtime.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitsearch_agent.client.client import DeviceClient, RequestOptions
    from vitsearch_agent.client.embedded_agent import EmbeddedAgent
    from vitsearch_agent.errors import AgentError, MeasurementFailed
    from vitsearch_agent.wire.protocol import CONFIRM, SCREEN, DeviceInfo, Measurement, MeasureProtocol, OutputsResult

__version__ = "0.1.0"

__all__ = [
    "AgentError",
    "CONFIRM",
    "DeviceClient",
    "DeviceInfo",
    "EmbeddedAgent",
    "MeasureProtocol",
    "Measurement",
    "MeasurementFailed",
    "OutputsResult",
    "RequestOptions",
    "SCREEN",
    "__version__",
]
_MODULE_OF = {
    "DeviceClient": "client.client",
    "EmbeddedAgent": "client.embedded_agent",
    "AgentError": "errors",
    "MeasurementFailed": "errors",
    "RequestOptions": "client.client",
}


class _Package(types.ModuleType):
    """Imports a name of `__all__` when it is first used, because each measuring child would pay for the client
    and HTTP without using them. (A module's own `__getattr__` needs Python 3.7.)"""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF.get(name, 'wire.protocol')}"), name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Package
