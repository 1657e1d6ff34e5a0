"""The device that the agent runs on: its identity, its configuration, and its current environment."""

import contextlib
import threading
from typing import Any, Dict, Iterator, Optional, Tuple

from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.conditions.emulation import describe
from vitsearch_agent.conditions.environment import changes, describe_runtimes, environment_id, fingerprint
from vitsearch_agent.conditions.throttling import cooling_devices
from vitsearch_agent.config import NO_CONFIG, AgentConfig
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit
from vitsearch_agent.server.identity import EMULATED, DeviceIdentity
from vitsearch_agent.wire.device_info import RuntimeInfo
from vitsearch_agent.wire.restriction import Restriction


class Device:
    """`ready` is set when `runtimes`, `memory_limit` and `restrictions` are known. Only the runtimes change afterwards,
    by `set_runtimes`.

    `secrets` are files outside the state folder that a measuring child must not read.
    """

    def __init__(
        self, identity: DeviceIdentity, version: str, config: AgentConfig = NO_CONFIG, system: System = THIS_MACHINE
    ) -> None:
        self.identity = identity
        self.version = version
        self.config = config
        self.system = system
        self.ready = threading.Event()
        self.runtimes: Tuple[RuntimeInfo, ...] = ()
        self.memory_limit: MemoryLimit = NO_MEMORY_LIMIT
        self.restrictions: Tuple[Restriction, ...] = ()
        self.secrets: Tuple[str, ...] = ()
        self._last_environment: Optional[Dict[str, Any]] = None
        self._is_measured = False

    @property
    def slowdown(self) -> Optional[float]:
        """The factor of an emulated device: 1 where its instructions are translated. None for a physical one."""
        if self.config.emulation is not None:
            return self.config.emulation.slowdown
        return 1.0 if self.identity.kind == EMULATED else None

    def runtime(self, name: str) -> Optional[RuntimeInfo]:
        """Return what the check of a runtime found; None for one that was not checked."""
        return next((runtime for runtime in self.runtimes if runtime.name == name), None)

    def set_runtimes(self, runtimes: Tuple[RuntimeInfo, ...]) -> None:
        """Take the results of the runtime checks; they are part of the environment at once, on a hot device too."""
        self.runtimes = runtimes
        if self._last_environment is not None:
            self._last_environment = dict(self._last_environment, runtimes=describe_runtimes(runtimes))

    def environment(self) -> Dict[str, Any]:
        """Return the current fingerprint; a governor or an affinity may have changed.

        During a measurement it is the last known one, because reading it would disturb (some boards need a tool for
        it). The same holds while the kernel throttles a hot device, because it then lowers limits that are otherwise
        settings.
        """
        if self._last_environment is not None and (self._is_measured or cooling_devices(self.system).active):
            return self._last_environment
        environment = fingerprint(self.version, self.runtimes, self.system)
        if self.config.emulation is not None:
            environment["emulation"] = describe(self.config.emulation)
        if self.config.limits.memory_mb is not None:
            environment["memory_limit"] = self.memory_limit.describe()
        self._last_environment = environment if self.ready.is_set() else None
        return environment

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Do not read the settings of the device within the block."""
        self._is_measured = True
        try:
            yield
        finally:
            self._is_measured = False

    def refuse_change(self, before: Dict[str, Any]) -> None:
        """Raise EnvironmentChanged if the device is in another environment than `before` a measurement."""
        after = self.environment()
        if environment_id(after) != environment_id(before):
            raise EnvironmentChanged(
                f"the device changed during the measurement: {'; '.join(changes(before, after))}",
                {"wanted": environment_id(before), "actual": environment_id(after)},
            )
