"""An NVIDIA graphics card, through the driver's library (libnvidia-ml, called with ctypes).

It reads the first of these that the card supports (NVML reference, "Device Queries"):

    nvmlDeviceGetTotalEnergyConsumption  millijoules since the driver was loaded (Volta and newer)
    NVML_FI_DEV_POWER_INSTANT            milliwatts now
    nvmlDeviceGetPowerUsage              milliwatts; the mean of a second on Ampere and newer

The GPU of a Jetson supports none of them: use the meter `ina3221` there.

The memory of processes is read with the same library (`Nvml.process_bytes`).
"""

import contextlib
import ctypes
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Type

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import System
from vitsearch_agent.power.base import MAX_W, MeterAvailability, PowerMeter, Sample, plausible
from vitsearch_agent.power.energy_counters import Counter

_LIBRARY = "libnvidia-ml.so.1"
_POWER_INSTANT = 186
_MEAN_S = 1.0
_INSUFFICIENT_SIZE = 7
_NOT_AVAILABLE = 2**64 - 1
"""The memory of a process that the driver does not count."""
_MOST_PROCESSES = 4096


class NvmlError(Exception):
    """A failed call of the library, with the library's error message."""


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t; `value` is a union of 8 bytes, in which power is an unsigned int."""

    _fields_ = (
        ("field_id", ctypes.c_uint),
        ("scope_id", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong),
        ("value_type", ctypes.c_int),
        ("code", ctypes.c_int),
        ("value", ctypes.c_uint),
        ("value_rest", ctypes.c_uint),
    )


class OldProcess(ctypes.Structure):
    """nvmlProcessInfo_v1_t."""

    _fields_ = (("pid", ctypes.c_uint), ("used_bytes", ctypes.c_ulonglong))


class Process(ctypes.Structure):
    """nvmlProcessInfo_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance_id", ctypes.c_uint),
        ("compute_instance_id", ctypes.c_uint),
    )


_PROCESS_LISTS: Tuple[Tuple[str, Type[ctypes.Structure]], ...] = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", Process),
    ("nvmlDeviceGetComputeRunningProcesses", OldProcess),
)


class GpuReading(NamedTuple):
    """The joules of the counter, or the watts."""

    energy_j: Optional[float] = None
    power_w: Optional[float] = None


def load_library() -> Any:
    """Load the driver's library; OSError when there is none."""
    return ctypes.CDLL(_LIBRARY)


class Nvml:
    """The driver's library, open until `close`."""

    def __init__(self, library: Any) -> None:
        """Open the library; NvmlError when that fails."""
        self._library = library
        self.call("nvmlInit_v2")

    def close(self) -> None:
        with contextlib.suppress(NvmlError):
            self.call("nvmlShutdown")

    def count(self) -> int:
        """Return the number of cards."""
        count = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return count.value

    def card(self, index: int) -> ctypes.c_void_p:
        """Return the handle of a card."""
        handle = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def process_bytes(self, card: ctypes.c_void_p) -> Dict[int, Optional[int]]:
        """Return the bytes of the card that each process holds which computes on it; None where they are not counted.

        Args:
            card: A handle.

        Returns:
            The bytes by the process' number.

        Raises:
            NvmlError: The card, or the driver, has no such list.
        """
        name, kind = next((pair for pair in _PROCESS_LISTS if hasattr(self._library, pair[0])), _PROCESS_LISTS[-1])
        places = 64
        while True:
            count, processes = ctypes.c_uint(places), (kind * places)()
            code = self.code(name, card, ctypes.byref(count), processes)
            if code != _INSUFFICIENT_SIZE or places >= _MOST_PROCESSES:
                break
            places *= 2
        if code != 0:
            raise NvmlError(f"{name}: {self.error_text(code)}")
        return {
            int(process.pid): None if process.used_bytes == _NOT_AVAILABLE else int(process.used_bytes)
            for process in processes[: count.value]
        }

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; NvmlError when it fails."""
        code = self.code(name, *arguments)
        if code != 0:
            raise NvmlError(f"{name}: {self.error_text(code)}")

    def code(self, name: str, *arguments: Any) -> int:
        """Call a function and return its code; NvmlError when the driver has no such function."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(f"{name}: not in this driver") from None
        return int(function(*arguments))

    def error_text(self, code: int) -> str:
        try:
            self._library.nvmlErrorString.restype = ctypes.c_char_p
            return str(self._library.nvmlErrorString(ctypes.c_int(code)).decode("utf-8", "replace"))
        except (AttributeError, TypeError):
            return f"error {code}"


@contextlib.contextmanager
def opened(library: Any) -> Iterator[Nvml]:
    """Open the driver's library for a block; NvmlError when that fails."""
    nvml = Nvml(library)
    try:
        yield nvml
    finally:
        nvml.close()


class Gpu:
    """One card; the library stays open until `close`."""

    def __init__(self, library: Any, index: Optional[int]) -> None:
        """Open the library; NvmlError when that fails, or when there are several cards and no `index`."""
        self._nvml = Nvml(library)
        try:
            count = self._nvml.count()
            if index is None and count != 1:
                raise NvmlError(f"found {count} GPUs: choose one (0, 1, ...) in power.options.gpu of config.json")
            self._handle = self._nvml.card(index or 0)
            self.read = self._choose()
        except NvmlError:
            self.close()
            raise

    def close(self) -> None:
        self._nvml.close()

    def energy(self) -> GpuReading:
        millijoules = ctypes.c_ulonglong()
        self._nvml.call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(millijoules))
        return GpuReading(energy_j=millijoules.value / 1e3)

    def instant(self) -> GpuReading:
        field = FieldValue(field_id=_POWER_INSTANT)
        self._nvml.call("nvmlDeviceGetFieldValues", self._handle, ctypes.c_int(1), ctypes.byref(field))
        if field.code != 0:
            raise NvmlError(self._nvml.error_text(field.code))
        return GpuReading(power_w=field.value / 1e3)

    def usage(self) -> GpuReading:
        milliwatts = ctypes.c_uint()
        self._nvml.call("nvmlDeviceGetPowerUsage", self._handle, ctypes.byref(milliwatts))
        return GpuReading(power_w=milliwatts.value / 1e3)

    def _choose(self) -> Callable[[], GpuReading]:
        problem = NvmlError("")
        for read in (self.energy, self.instant, self.usage):
            try:
                reading = read()
            except NvmlError as error:
                problem = error
                continue
            # A card without the sensor may return 0 or all ones.
            if reading.energy_j or 0 < (reading.power_w or 0.0) <= MAX_W:
                return read
            problem = NvmlError(f"it reports {reading.power_w or 0:g} W")
        raise NvmlError(f"the GPU reports neither energy nor power: {problem}")


class NvmlMeter(PowerMeter):
    """The power of one card. Option `gpu`: its index in `nvidia-smi -L`, required with several cards."""

    name = "nvml"
    scope = "gpu"
    option_readers = {"gpu": json_reader.integer(0, 63)}

    def __init__(
        self,
        system: System,
        options: Optional[Mapping[str, Any]] = None,
        load: Callable[[], Any] = load_library,
    ) -> None:
        super().__init__(system, options)
        self._load = load
        self._gpu: Optional[Gpu] = None
        self._counter = Counter()

    def available(self) -> MeterAvailability:
        self.start()
        self.stop()
        return MeterAvailability(self.problem is None, self.problem)

    def start(self) -> None:
        self._counter, self.problem = Counter(), None
        if self.system.root != "/":
            self.problem = "the driver's library reads this machine, not the emulated device"
            return
        try:
            self._gpu = Gpu(self._load(), self.options.get("gpu"))
        except OSError:
            self.problem = f"{_LIBRARY} (the NVIDIA driver) is not installed"
        except NvmlError as error:
            self.problem = str(error)

    def sample(self) -> Optional[Sample]:
        if self._gpu is None:
            return None
        before = self.system.clock()
        try:
            reading = self._gpu.read()
        except NvmlError as error:
            self.problem = str(error)
            return None
        moment = (before + self.system.clock()) / 2
        self.averaging_s = _MEAN_S if self._gpu.read == self._gpu.usage else 0.0
        if reading.energy_j is None:
            power = plausible(reading.power_w or 0.0, "the GPU's power")
            self.problem = power.reason
            return None if power.number is None else Sample(moment, power_w=power.number)
        total = self._counter.feed(reading.energy_j, moment)
        self.problem = total.reason
        return None if total.number is None else Sample(moment, energy_j=total.number)

    def stop(self) -> None:
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            gpu.close()
