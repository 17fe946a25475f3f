"""Budgets: limits on a network, and how people write them."""

from __future__ import annotations

import math
import re
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from triscale.errors import BudgetError
from triscale.network.cost import BYTES_PER_VALUE, Counts, si
from triscale.record import Record

FORMS = (
    '"400M" or "1.2G" (MACs), "5M params", "20MB" (weights in float32), "20ms" (with a profile of the device), '
    'or several: "400M, 5M params"'
)

NO_PROFILE = (
    "a budget of time needs a profile of the device: make one there with triscale profile --out profile.json, and give "
    "--profile profile.json"
)

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_FORM = re.compile(
    r"(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(?P<prefix>Ki|Mi|Gi|(?:(?!MACs?$)[kKMGT])?)\s*(?P<unit>[A-Za-z]*)"
)
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_UNITS = {
    "": "macs",
    "mac": "macs",
    "macs": "macs",
    "param": "params",
    "params": "params",
    "parameters": "params",
    "B": "size",
    "bytes": "size",
}


MICROSECONDS = 1000
"""In a millisecond."""
FLOAT_NOISE = 1e-6


class Timed(NamedTuple):
    """A network's tally, and the latency in whole microseconds that is predicted for it."""

    counts: Counts
    microseconds: int


class Budget(Record):
    """Limits on a network, all to be kept at once.

    ``macs``: multiply-accumulates for one image. ``params``: trained values. ``size``: bytes of all stored values
    (params and batch-norm statistics) as float32; a file adds its header to that. 1 MB is 10^6 bytes, 1 MiB 2^20.
    ``latency``: milliseconds for one image, as a profile of a device predicts them (:mod:`triscale.network.latency`).
    """

    kind_name: ClassVar[str] = "budget"

    macs: float | None = Field(default=None, gt=0)
    params: float | None = Field(default=None, gt=0)
    size: float | None = Field(default=None, gt=0)
    latency: float | None = Field(default=None, ge=1e-3)

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not self.limits:
            raise ValueError(f"a budget needs at least one limit, such as {FORMS}")
        return self

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are set, rounded down to whole numbers; that of latency in microseconds."""
        microseconds = None if self.latency is None else self.latency * MICROSECONDS + FLOAT_NOISE
        fields = {"macs": self.macs, "params": self.params, "size": self.size, "latency": microseconds}
        return {name: math.floor(value) for name, value in fields.items() if value is not None}

    def admits(self, counts: Counts | Timed) -> bool:
        """Whether a network with these figures keeps every limit.

        Raises:
            BudgetError: latency is limited, and nobody has predicted it.
        """
        return all(figure(counts, name) <= limit for name, limit in self.limits.items())

    def __str__(self) -> str:
        """Return the limits as a user would write them."""
        return ", ".join(amount(name, value) for name, value in self.limits.items())

    @classmethod
    def of(cls, *forms: str) -> Budget:
        """Read written forms such as ``"400M"``, ``"5M params"``, ``"20MB"``, or ``"400M, 5M params"``.

        Raises:
            BudgetError: a form that cannot be read, or two limits of one kind.
        """
        limits: dict[str, float] = {}
        for form in (part.strip() for text in forms for part in text.split(",")):
            name, value = _parse(form)
            if name in limits:
                raise BudgetError(f'the budget limits {LABELS[name]} twice, the second time as "{form}"; keep one')
            limits[name] = value
        if not limits:
            raise BudgetError(f"no budget given; write {FORMS}")
        return cls(**limits)


LABELS = {"macs": "MACs", "params": "parameters", "size": "weights", "latency": "latency"}


def figure(counted: Counts | Timed, name: str) -> int:
    """Return the figure that a limit of this name is about, in whole units.

    Raises:
        BudgetError: it is latency, and nobody has predicted it.
    """
    if name == "latency":
        if isinstance(counted, Timed):
            return counted.microseconds
        raise BudgetError(NO_PROFILE)
    counts = counted.counts if isinstance(counted, Timed) else counted
    match name:
        case "macs":
            return counts.macs
        case "params":
            return counts.params
        case "size":
            return BYTES_PER_VALUE * (counts.params + counts.buffers)
        case _:
            raise AssertionError(name)


def amount(name: str, value: float) -> str:
    """Return an amount with the unit of its limit: ``400M MACs``, ``5M params``, ``20MB``, ``20 ms``."""
    if name == "latency":
        return f"{value / MICROSECONDS:.3g} ms" if value < 1e6 else f"{value / 1e6:.3g} s"
    size = f"{si(value)}B" if value >= 1000 else f"{value:g} bytes"
    return {"macs": f"{si(value)} MACs", "params": f"{si(value)} params", "size": size}[name]


def _parse(form: str) -> tuple[str, float]:
    found = _FORM.fullmatch(form)
    if found is None:
        raise BudgetError(f'cannot read the budget "{form}"; write {FORMS}')
    prefix, unit = found["prefix"], found["unit"]
    if unit in _MILLISECONDS and not prefix:
        milliseconds = float(found["number"]) * _MILLISECONDS[unit]
        if not (1 / MICROSECONDS <= milliseconds < math.inf):
            raise BudgetError(f'the budget "{form}" is not a time of a microsecond or more; write {FORMS}')
        return "latency", milliseconds
    if unit == "B" and not prefix:
        raise BudgetError(
            f'the budget "{form}" could mean billions or bytes; write "{found["number"]}G" or "... bytes"'
        )
    name = _UNITS.get(unit if unit == "B" else unit.lower())
    if name is None:
        hint = f'; did you mean "{found["number"]}{unit.upper()}"?' if unit in ("m", "g", "t") else ""
        raise BudgetError(f'cannot read the budget "{form}"{hint or f"; write {FORMS}"}')
    if prefix in _BINARY and name != "size":
        raise BudgetError(f'the budget "{form}" counts {LABELS[name]} in binary units; write {FORMS}')
    value = float(found["number"]) * (_BINARY.get(prefix) or _PREFIX[prefix])
    if value < 1 or not math.isfinite(value):
        raise BudgetError(f'the budget "{form}" is not a positive amount; write {FORMS}')
    return name, value
