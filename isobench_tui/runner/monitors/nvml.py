"""GPUs as NVIDIA's management library sees them (nvidia-ml-py; docs.nvidia.com/deploy/nvml-api).

A host without GPUs, without the driver, or with a library that does not match it is told of in one line: no error.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from isobench_tui.store.live import LiveGpu, LiveProcess

LIBRARY: Final = "libnvidia-ml.so.1"
_PLACES: Final = ("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/run/nvidia/driver/usr/lib64")
"""Where the library lies on hosts whose linker does not know: containers of Kubernetes, WSL, the GPU operator."""

_REASONS: Final = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
    "board_limit",
    "reliability",
)
"""Names of the bits nvmlClocksEventReason* (nvml.h), lowest first."""

_GONE: Final = frozenset({"UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "GPU_IS_LOST", "UNKNOWN"})
"""Errors (NVML_ERROR_*) after which the other answers of that GPU are worth nothing either."""


class NoGpus(Exception):
    """There is no reading; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """All GPUs at one moment. Processes have their pid and memory, nothing else."""

    driver: str
    gpus: tuple[LiveGpu, ...]
    note: str = ""
    """GPUs that do not answer, and why."""


class GpuSource(Protocol):
    """Where readings come from. Calls block, may hang, and come from one thread at a time."""

    def read(self) -> GpuReading:
        """All GPUs now. Raises NoGpus."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Device:
    """A GPU with what never changes about it."""

    handle: Any
    gpu: LiveGpu


class Nvml:
    """The library, opened by the first reading and again after an error: drivers are upgraded while we run."""

    def __init__(self) -> None:
        self._lib: Any = None
        self._driver = ""
        self._devices: list[_Device] = []
        self._unreadable: tuple[str, ...] = ()

    def read(self) -> GpuReading:
        """All GPUs now; one that does not answer is left out and named. Raises NoGpus."""
        if self._lib is None:
            self._open()
        gpus, failed = [], []
        for device in self._devices:
            try:
                gpus.append(self._look(device))
            except self._lib.NVMLError as error:
                failed.append(f"GPU {device.gpu.index} ({device.gpu.name}): {error}")
        note = "; ".join([*self._unreadable, *failed])
        driver = self._driver
        if failed:
            self.close()
        if not gpus:
            raise NoGpus(note or "no NVIDIA GPU on this host")
        return GpuReading(driver, tuple(gpus), note)

    def close(self) -> None:
        """Let go of the library; the next reading opens it again."""
        lib, self._lib = self._lib, None
        if lib is not None:
            with contextlib.suppress(lib.NVMLError):
                lib.nvmlShutdown()

    def _open(self) -> None:
        lib = _library()
        try:
            lib.nvmlInit()
        except lib.NVMLError as error:
            raise NoGpus(_why(lib, error)) from None
        self._lib = lib
        try:
            self._driver = _text(lib.nvmlSystemGetDriverVersion())
            self._devices, failed = [], []
            for index in range(lib.nvmlDeviceGetCount()):
                try:
                    self._devices.append(self._device(index))
                except lib.NVMLError as error:
                    failed.append(f"GPU {index}: {error}")
            self._unreadable = tuple(failed)
        except lib.NVMLError as error:
            self.close()
            raise NoGpus(f"NVML: {error}") from None

    def _device(self, index: int) -> _Device:
        lib = self._lib
        handle = lib.nvmlDeviceGetHandleByIndex(index)
        limit = self._maybe(lib.nvmlDeviceGetEnforcedPowerLimit, handle)
        gpu = LiveGpu(
            index=index,
            uuid=_text(lib.nvmlDeviceGetUUID(handle)),
            name=_text(lib.nvmlDeviceGetName(handle)),
            memory_used=0,
            memory_total=0,
            utilization=None,
            temperature=None,
            sm_clock=None,
            sm_clock_max=self._maybe(lib.nvmlDeviceGetMaxClockInfo, handle, lib.NVML_CLOCK_SM),
            power=None,
            power_limit=None if limit is None else limit / 1000,
        )
        return _Device(handle, gpu)

    def _look(self, device: _Device) -> LiveGpu:
        lib, handle = self._lib, device.handle
        memory = self._maybe(lib.nvmlDeviceGetMemoryInfo, handle, lib.nvmlMemory_v2)
        if memory is None:  # drivers before 510 count what they keep for themselves as used
            memory = lib.nvmlDeviceGetMemoryInfo(handle)
        busy = self._maybe(lib.nvmlDeviceGetUtilizationRates, handle)
        power = self._maybe(lib.nvmlDeviceGetPowerUsage, handle)
        reasons = self._first(
            handle, lib.nvmlDeviceGetCurrentClocksEventReasons, lib.nvmlDeviceGetCurrentClocksThrottleReasons
        )
        return replace(
            device.gpu,
            memory_used=int(memory.used),
            memory_total=int(memory.total),
            utilization=None if busy is None else int(busy.gpu),
            temperature=self._maybe(lib.nvmlDeviceGetTemperature, handle, lib.NVML_TEMPERATURE_GPU),
            sm_clock=self._maybe(lib.nvmlDeviceGetClockInfo, handle, lib.NVML_CLOCK_SM),
            power=None if power is None else power / 1000,
            throttle=tuple(reason_names(reasons or 0)),
            processes=self._processes(handle),
        )

    def _processes(self, handle: Any) -> tuple[LiveProcess, ...]:
        """Who holds memory; a process that also draws (`C+G` of nvidia-smi) computes."""
        lib = self._lib
        found: dict[int, LiveProcess] = {}
        for graphics, calls in (
            (True, (lib.nvmlDeviceGetGraphicsRunningProcesses_v3, lib.nvmlDeviceGetGraphicsRunningProcesses_v2)),
            (False, (lib.nvmlDeviceGetComputeRunningProcesses_v3, lib.nvmlDeviceGetComputeRunningProcesses_v2)),
        ):
            for one in self._first(handle, *calls) or ():
                memory = None if one.usedGpuMemory is None else int(one.usedGpuMemory)
                found[one.pid] = LiveProcess(int(one.pid), "", "", memory, graphics=graphics, visible=False)
        return tuple(found[pid] for pid in sorted(found))

    def _first(self, handle: Any, *calls: Callable[[Any], Any]) -> Any:
        """What the first of these functions that this driver has says; None where it has none of them."""
        return next((said for call in calls if (said := self._maybe(call, handle)) is not None), None)

    def _maybe(self, call: Callable[..., Any], *args: Any) -> Any:
        """What the driver says, None where it says nothing of this. Raises NVMLError where the GPU is gone."""
        lib = self._lib
        try:
            return call(*args)
        except lib.NVMLError as error:
            if getattr(error, "value", None) in {getattr(lib, f"NVML_ERROR_{name}") for name in _GONE}:
                raise
            return None


def reason_names(bits: int) -> Iterator[str]:
    """The names of nvmlClocksEventReason* bits; one that we do not know is told by its number."""
    for place in range(bits.bit_length()):
        if bits >> place & 1:
            yield _REASONS[place] if place < len(_REASONS) else f"reason_{1 << place:#x}"


def _library() -> Any:
    """nvidia-ml-py's module. Raises NoGpus where it, or the driver's library, is missing."""
    try:
        lib = importlib.import_module("pynvml")
    except ImportError as error:
        raise NoGpus(f"nvidia-ml-py is not installed ({error}); `pip install nvidia-ml-py`") from None
    for folder in _PLACES:  # a library that is loaded already is found by its name
        with contextlib.suppress(OSError):
            ctypes.CDLL(LIBRARY)
            break
        with contextlib.suppress(OSError):
            ctypes.CDLL(f"{folder}/{LIBRARY}", mode=ctypes.RTLD_GLOBAL)
            break
    return lib


def _why(lib: Any, error: Exception) -> str:
    value = getattr(error, "value", None)
    if value == lib.NVML_ERROR_LIBRARY_NOT_FOUND:
        return f"no NVIDIA driver on this host ({LIBRARY} is not there)"
    if value == lib.NVML_ERROR_DRIVER_NOT_LOADED:
        return "the NVIDIA driver is installed but not loaded (`modprobe nvidia`, `dmesg`)"
    if value == lib.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "the NVIDIA driver was upgraded under the loaded one; reboot, or reload the module"
    return f"NVML cannot be opened: {error}"


def _text(value: str | bytes) -> str:
    """Older releases of nvidia-ml-py answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
