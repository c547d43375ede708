"""SIMULATED: the functions of nvidia-ml-py that are called, over a reading of a real H100 (driver 580.159.04).

$FAKE_NVML is a JSON file, read anew by every call: `driver`, `error` (name of an NVML error on opening), `old`
(a driver without newer functions) and `gpus`, each with its values; a value that is missing is answered with
NVML_ERROR_NOT_SUPPORTED. One byte is appended to $FAKE_NVML.reads for each reading.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_ERROR_UNINITIALIZED = 1
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_FUNCTION_NOT_FOUND = 13
NVML_ERROR_GPU_IS_LOST = 15
NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
NVML_ERROR_UNKNOWN = 999
NVML_CLOCK_SM = 1
NVML_TEMPERATURE_GPU = 0
nvmlMemory_v2 = 0x02000028  # noqa: N816 - NVML's own name


class NVMLError(Exception):
    """As the library's: `value` is the code."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 15: "GPU is lost", 999: "Unknown Error"}.get(value, f"error {value}"))
        self.value = value


def _state() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["FAKE_NVML"]).read_text())
    return found


def _value(handle: int, key: str) -> Any:
    gpu = _state()["gpus"][handle]
    if "error" in gpu:
        raise NVMLError(globals()[f"NVML_ERROR_{gpu['error']}"])
    if key not in gpu:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return gpu[key]


def nvmlInit() -> None:
    if error := _state().get("error"):
        raise NVMLError(globals()[f"NVML_ERROR_{error}"])


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return str(_state()["driver"])


def nvmlDeviceGetCount() -> int:
    return len(_state()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetUUID(handle: int) -> str:
    return str(_value(handle, "uuid"))


def nvmlDeviceGetName(handle: int) -> bytes:
    return str(_value(handle, "name")).encode()


def nvmlDeviceGetMemoryInfo(handle: int, version: int | None = None) -> SimpleNamespace:
    with Path(f"{os.environ['FAKE_NVML']}.reads").open("ab") as reads:
        reads.write(b"x")
    if version is not None and _state().get("old"):
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)
    held = sum(one["memory"] or 0 for one in _value(handle, "processes"))
    return SimpleNamespace(used=held, total=_value(handle, "memory_total"))


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:
    return SimpleNamespace(gpu=_value(handle, "utilization"), memory=0)


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return int(_value(handle, "temperature"))


def nvmlDeviceGetClockInfo(handle: int, kind: int) -> int:
    return int(_value(handle, "sm_clock"))


def nvmlDeviceGetMaxClockInfo(handle: int, kind: int) -> int:
    return int(_value(handle, "sm_clock_max"))


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    return int(_value(handle, "power_mw"))


def nvmlDeviceGetEnforcedPowerLimit(handle: int) -> int:
    return int(_value(handle, "power_limit_mw"))


def nvmlDeviceGetCurrentClocksEventReasons(handle: int) -> int:
    if _state().get("old"):
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)
    return int(_value(handle, "reasons"))


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: int) -> int:
    return int(_value(handle, "reasons"))


def _processes(handle: int, *, graphics: bool) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(pid=one["pid"], usedGpuMemory=one["memory"])
        for one in _value(handle, "processes")
        if one.get("graphics", False) is graphics
    ]


def nvmlDeviceGetComputeRunningProcesses_v3(handle: int) -> list[SimpleNamespace]:
    if _state().get("old"):
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)
    return _processes(handle, graphics=False)


def nvmlDeviceGetComputeRunningProcesses_v2(handle: int) -> list[SimpleNamespace]:
    return _processes(handle, graphics=False)


def nvmlDeviceGetGraphicsRunningProcesses_v3(handle: int) -> list[SimpleNamespace]:
    if _state().get("old"):
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)
    return _processes(handle, graphics=True)


def nvmlDeviceGetGraphicsRunningProcesses_v2(handle: int) -> list[SimpleNamespace]:
    return _processes(handle, graphics=True)
