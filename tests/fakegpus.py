"""GPUs for a host without: a stand-in for nvidia-ml-py that a test tells what to show, also in other processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "fakenvml"

H100: dict[str, Any] = {
    "name": "NVIDIA H100 80GB HBM3",
    "memory_total": 85520809984,
    "utilization": 0,
    "temperature": 33,
    "sm_clock": 345,
    "sm_clock_max": 1980,
    "power_mw": 70707,
    "power_limit_mw": 700000,
    "reasons": 1,
    "processes": [],
}
"""An idle one, as read."""


class FakeGpus:
    """What the GPUs show. `env` makes a process see them."""

    def __init__(self, folder: Path, *uuids: str) -> None:
        self._file = folder / "nvml.json"
        self.env = {"FAKE_NVML": str(self._file), "PYTHONPATH": str(FOLDER)}
        self._state: dict[str, Any] = {
            "driver": "580.159.04",
            "gpus": [{**H100, "uuid": uuid} for uuid in uuids or ("GPU-d34945ce-cff7-224f-be7c-1e49d148ace0",)],
        }
        self.show()

    def show(self, gpu: int = 0, **values: Any) -> None:
        """Change values of a GPU; None removes one, as if the driver did not tell."""
        shown = {**self._state["gpus"][gpu], **values}
        self._state["gpus"][gpu] = {key: value for key, value in shown.items() if value is not None}
        self.write()

    def write(self, **values: Any) -> None:
        """Change what belongs to the whole host: `error`, `old`, `gpus`."""
        self._state.update(values)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._state))
        part.replace(self._file)

    def hold(self, pid: int, gib: float, **more: Any) -> None:
        """Let a process, and no other, hold memory of the first GPU."""
        self.show(processes=[{"pid": pid, "memory": int(gib * 1024**3), **more}])

    @property
    def reads(self) -> int:
        """Readings of a GPU so far, by whomever."""
        try:
            return self._file.with_name(f"{self._file.name}.reads").stat().st_size
        except FileNotFoundError:
            return 0
