"""The results of a part: one JSON file, written after every row, from which a later call continues."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import triscale
from triscale.errors import UserError
from triscale.record import write_atomic

Result = dict[str, Any]
MAX_ATTEMPTS = 2
"""How often a row is computed that ends the process, by a crash or by the time limit."""


class OutOfTimeError(Exception):
    """The rest of the part does not fit into the time of this call."""


class DeviceLostError(Exception):
    """The device does not answer any more: the next row needs a new process."""


class UnavailableError(Exception):
    """A row cannot be computed on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the campaign runs.

    Attributes:
        device: The device under test.
        tiny: Whether to use the smallest sizes, which test the campaign itself.
        out: Folder of the results.
        deadline: When this call has to end, on the clock of ``time.time``.
        images: Folder of CIFAR-10, or the name of a data set.
        machine: The machine, as recorded with the results.
    """

    device: torch.device
    tiny: bool
    out: Path
    deadline: float
    images: str
    machine: Result

    @property
    def seconds_left(self) -> float:
        """Seconds until this call has to end."""
        return self.deadline - time.time()

    @property
    def work(self) -> Path:
        """Folder for what is not a result: checkpoints, studies, compiled kernels."""
        folder = self.out / "gpu_work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(slots=True)
class Rows:
    """The rows of a part.

    A row is a dict of figures. Its entry ``failed``, if there is one, lists the checks that it did not pass.
    """

    part: str
    setting: Setting
    rows: dict[str, Result] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    status: str = "unfinished"

    def __post_init__(self) -> None:
        if not self.file.is_file():
            return
        record = json.loads(self.file.read_text(encoding="utf-8"))
        for name, value in self._header.items():
            if record[name] != value:
                raise UserError(
                    f"{self.file} holds results of another {name} ({record[name]}, not {value}); give another --out"
                )
        self.rows, self.attempts, self.status = record["rows"], record["attempts"], record["status"]

    @property
    def file(self) -> Path:
        """The JSON file of the part."""
        return self.setting.out / f"gpu_{self.part}.json"

    @property
    def failed(self) -> list[str]:
        """The rows with an error or a failed check."""
        return [key for key, row in self.rows.items() if "error" in row or row.get("failed")]

    def once(self, key: str, compute: Callable[[], Result], *, seconds: float = 30) -> Result:
        """Compute a row and write it, unless it is there.

        Args:
            key: Name of the row.
            compute: Returns the figures of the row; what it raises is written with its traceback.
            seconds: About how long it takes; it is not begun with less time left.

        Raises:
            OutOfTimeError: There is too little time left.
            DeviceLostError: The device does not answer after an error.
        """
        if key in self.rows:
            return self.rows[key]
        tried = self.attempts.get(key, 0)
        if tried >= MAX_ATTEMPTS:
            sentence = f"the process ended {tried} times in this row: by a crash, or because the time was up"
            return self._keep(key, {"error": sentence})
        if self.setting.seconds_left < seconds and not self.setting.tiny:
            raise OutOfTimeError(f"{key} takes about {seconds:.0f} s, {self.setting.seconds_left:.0f} s are left")
        self.attempts[key] = tried + 1
        self.write()
        started = time.perf_counter()
        try:
            row = compute()
        except UnavailableError as reason:
            return self._keep(key, {"unavailable": str(reason)})
        except OutOfTimeError:
            del self.attempts[key]  # the row itself stopped in time
            self.write()
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            row = self._keep(key, {"error": text, "traceback": traceback.format_exc()})
            self._check_device()
            return row
        return self._keep(key, row | {"seconds": round(time.perf_counter() - started, 2)})

    def finish(self) -> None:
        """Mark the part as complete: done, or failed if a row is."""
        self.status = "failed" if self.failed else "done"
        self.write()

    def forget_failed(self) -> None:
        """Remove the failed rows, which are then computed again."""
        for key in self.failed:
            del self.rows[key]
        self.attempts, self.status = {}, "unfinished"
        self.write()

    def write(self) -> None:
        """Write the file."""
        record = {"part": self.part, "status": self.status, **self._header}
        record |= {"machine": self.setting.machine, "attempts": self.attempts, "rows": self.rows}
        self.setting.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.file, (json.dumps(record, indent=1) + "\n").encode())

    @property
    def _header(self) -> Result:
        machine = self.setting.machine
        return {"device": machine["accelerator"], "torch": machine["torch"], "tiny": self.setting.tiny}

    def _keep(self, key: str, row: Result) -> Result:
        self.rows[key] = row
        self.attempts.pop(key, None)
        self.write()
        return row

    def _check_device(self) -> None:
        try:
            torch.ones(1, device=self.setting.device).sum().item()
        except RuntimeError as error:
            raise DeviceLostError(str(error)) from error


def child_environment() -> dict[str, str]:
    """Return the environment of a process that imports the same packages as this one."""
    benchmarks = Path(__file__).parent.parent
    folders = (benchmarks, benchmarks.parent / "tests", Path(triscale.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), known])}


def failed_checks(checks: dict[str, bool]) -> Result:
    """Return the entry ``failed`` of a row: the sentences that are not true.

    Example:
        >>> failed_checks({"1 is 1": True, "1 is 2": False})
        {'failed': ['1 is 2']}
    """
    return {"failed": [sentence for sentence, holds in checks.items() if not holds]}
