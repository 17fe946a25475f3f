"""Budgets: limits on the cost of a network, and their text form."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pydantic import Field, PositiveInt, model_validator

from triscale.errors import BudgetError
from triscale.network.cost import BYTES_PER_VALUE, Counts, si
from triscale.record import SparseRecord

DEVICE_BUDGETS: dict[str, tuple[float, str]] = {
    "pi": (150e6, "MobileNetV1 0.5 takes 149M MACs (Howard et al. 2017, https://arxiv.org/abs/1704.04861, Table 6)"),
    "phone": (300e6, "MobileNetV2 takes 300M MACs and 75 ms on a Pixel 1 (https://arxiv.org/abs/1801.04381, Table 4)"),
    "browser": (400e6, "EfficientNet-Lite0, 385M MACs, is MediaPipe's recommended classifier for web pages"),
    "tablet": (
        600e6,
        "the mobile setting of the search literature: below 600M MACs (https://arxiv.org/abs/1806.09055)",
    ),
    "laptop": (1.8e9, "ResNet-18 takes 1.8G MACs (https://arxiv.org/abs/1512.03385, Table 1)"),
    "server": (4.1e9, "ResNet-50, 4.1G MACs, is the image classifier of the MLPerf inference benchmark"),
}
"""Budgets by kind of device: MACs, and the network of that cost which is commonly run there.

They are rules of thumb; to limit the latency on a device of your own, measure it with ``triscale profile``.
"""

FORMS = (
    '"400M" or "1.2G" (MACs), "5M params", "8M activations", "20MB" (weights in float32), "30MB memory" (peak of '
    'inference), "4GB training memory" (at batch 32, or "... at batch 64"), "256KB ram" and "1MB flash" (int8 on a '
    'microcontroller), "20ms" or "2000 images/s" (with a profile), or several: "400M, 5M params"; or a kind of device: '
    "pi, phone, browser, tablet, laptop or server"
)

NO_PROFILE = (
    "a latency budget needs a device profile: create one on the device with triscale profile --out profile.json, and "
    "give --profile profile.json; or give a built-in one, such as --profile a100"
)

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
# Number, prefix and unit. The lookahead keeps the M of "MACs" from being read as a prefix ("5 MACs").
_FORM = re.compile(
    r"(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(?P<prefix>Ki|Mi|Gi|(?:(?!MACs?$)[kKMGT])?)\s*(?P<unit>[A-Za-z]*)"
)
_MEMORY = re.compile(
    r"(?P<amount>.+?)\s+(?P<of>inference\s+|training\s+)?memory(?:\s+at\s+batch\s+(?P<batch>\d{1,6}))?", re.IGNORECASE
)
_MICROCONTROLLER = re.compile(r"(?P<amount>.+?)\s+(?:of\s+)?(?:s?(?P<ram>ram)|flash)", re.IGNORECASE)
# Images per second stand for the time of one image: 2000 images/s is 0.5 ms.
_THROUGHPUT = re.compile(
    r"(\d*[1-9]\d*(?:\.\d*)?|0*\.\d*[1-9]\d*)\s*(?:(?:images|img)\s*(?:/|per\s+)\s*s(?:econd)?|fps)", re.IGNORECASE
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_MULT_ADDS = re.compile(r"\s+(?:(?:mult|multiply)-?adds?|madds?)$", re.IGNORECASE)
_FLOPS = re.compile(r"(?P<number>.+?)\s*(?P<prefix>[kKMGT]?)flops?", re.IGNORECASE)
MIN_BARE_MACS = 1000
"""The least number of MACs without a unit; ``20,5M`` would else be 20 MACs and 5M MACs."""
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_UNITS = {
    "": "macs",
    "mac": "macs",
    "macs": "macs",
    "param": "params",
    "params": "params",
    "parameters": "params",
    "activation": "activations",
    "activations": "activations",
    "B": "size",
    "bytes": "size",
}


TRAINING_BATCH = 32
"""Images of the training step whose memory is limited, unless a budget says otherwise."""
MICROSECONDS = 1000
"""Microseconds per millisecond."""
FLOAT_TOLERANCE = 1e-6


class BudgetedCounts(NamedTuple):
    """The counts of a network, and what a budget limits besides them; None for what it does not limit.

    Attributes:
        counts: The counts.
        microseconds: The predicted latency.
        memory: Peak bytes of inference with one image.
        training_memory: Estimated bytes of a training step.
        ram: Peak bytes of the maps of the int8 network on a microcontroller.
        flash: Bytes of the int8 network's file.
    """

    counts: Counts
    microseconds: int | None = None
    memory: int | None = None
    training_memory: int | None = None
    ram: int | None = None
    flash: int | None = None


class Budget(SparseRecord):
    """Limits on the cost of a network, all of which must be met.

    Attributes:
        macs: Multiply-accumulate operations for one image.
        params: Trainable parameters.
        size: Bytes of all stored values (parameters and batch norm statistics) as float32, without a file header.
            1 MB is 10^6 bytes, 1 MiB is 2^20.
        latency: Milliseconds for one image, as predicted from a device profile (:mod:`triscale.network.latency`).
        activations: Output values of convolutions, squeeze-and-excitation and classifier for one image.
        memory: Peak bytes of inference with one image in float32 (:mod:`triscale.network.memory_estimate`).
        training_memory: Estimated bytes of a training step in float32 with AdamW.
        training_batch: Images of this step.
        ram: Peak bytes of the maps of the int8 network with one image, as TensorFlow Lite Micro places them
            (:mod:`triscale.network.arena`). 1 KB is 10^3 bytes, 1 KiB is 2^10.
        flash: Bytes of the int8 network's LiteRT file.

    The last six are left out of JSON if they are not given.

    Example:
        >>> Budget("400M, 5M params").limits
        {'macs': 400000000, 'params': 5000000}
        >>> Budget(macs=300e6) == Budget("300M") == Budget("phone")
        True
    """

    kind_name: ClassVar[str] = "budget"
    sparse: ClassVar[tuple[str, ...]] = ("activations", "memory", "training_memory", "training_batch", "ram", "flash")

    macs: float | None = Field(default=None, gt=0)
    params: float | None = Field(default=None, gt=0)
    size: float | None = Field(default=None, gt=0)
    latency: float | None = Field(default=None, ge=1e-3)
    activations: float | None = Field(default=None, gt=0)
    memory: float | None = Field(default=None, gt=0)
    training_memory: float | None = Field(default=None, gt=0)
    training_batch: PositiveInt = TRAINING_BATCH
    ram: float | None = Field(default=None, gt=0)
    flash: float | None = Field(default=None, gt=0)

    if TYPE_CHECKING:

        def __init__(
            self,
            *forms: str,
            macs: float | None = None,
            params: float | None = None,
            size: float | None = None,
            latency: float | None = None,
            activations: float | None = None,
            memory: float | None = None,
            training_memory: float | None = None,
            training_batch: int = TRAINING_BATCH,
            ram: float | None = None,
            flash: float | None = None,
        ) -> None: ...

    @classmethod
    def _positional(cls, values: tuple[Any, ...]) -> dict[str, Any]:
        return _parse_all(values)

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not self.limits:
            raise ValueError(f"a budget needs at least one limit, such as {FORMS}")
        return self

    @property
    def limits(self) -> dict[str, int]:
        """The given limits, rounded down to integers; latency is in microseconds."""
        microseconds = None if self.latency is None else self.latency * MICROSECONDS + FLOAT_TOLERANCE
        fields = {"macs": self.macs, "params": self.params, "size": self.size, "latency": microseconds,
                  "activations": self.activations, "memory": self.memory,
                  "training_memory": self.training_memory, "ram": self.ram, "flash": self.flash}  # fmt: skip
        return {name: math.floor(value) for name, value in fields.items() if value is not None}

    def admits(self, counts: Counts | BudgetedCounts) -> bool:
        """Return whether a network with these counts meets every limit.

        Args:
            counts: Counts of a network, with its predicted latency if that is limited.

        Raises:
            BudgetError: Latency is limited, but was not predicted.

        Example:
            >>> from triscale.families import get
            >>> from triscale.network.cost import count_network
            >>> Budget.of("400M").admits(count_network(get("efficientnet_b0")))
            True
        """
        return all(cost_value(counts, name) <= limit for name, limit in self.limits.items())

    def with_margin(self, margin: float) -> Budget:
        """Return the budget with a lower latency, since predictions of latency have errors.

        Args:
            margin: Share of the latency that is kept free, from 0 to less than 1.

        Raises:
            BudgetError: The margin is out of range, or latency is not limited.

        Example:
            >>> str(Budget.of("20ms").with_margin(0.1))
            '18 ms'
        """
        if not 0 <= margin < 1:
            raise BudgetError(f"{margin:g} is not a margin; give a share from 0 to less than 1, such as 0.1")
        if margin == 0:
            return self
        if self.latency is None:
            raise BudgetError("a margin is for a latency, which is predicted with an error; give a budget such as 20ms")
        return self.replace(latency=self.latency * (1 - margin))

    def __str__(self) -> str:
        """Return the limits in their text form."""
        batch = "" if self.training_batch == TRAINING_BATCH else f" at batch {self.training_batch}"
        return ", ".join(
            format_cost(name, value) + (batch if name == "training_memory" else "")
            for name, value in self.limits.items()
        )

    @classmethod
    def of(cls, *forms: str) -> Budget:
        """Parse text such as ``"400M"``, ``"5M params"``, ``"20MB"``, ``"20ms"`` or ``"400M, 5M params"``.

        Args:
            *forms: One or more texts, each with one or more limits separated by commas.

        Raises:
            BudgetError: A text cannot be parsed, or limits the same quantity twice.

        Example:
            >>> str(Budget.of("1.2G", "20MB"))
            '1.20G MACs, 20.0MB'
        """
        return cls.parse(_parse_all(forms), "the budget")


LABELS = {
    "macs": "MACs",
    "params": "parameters",
    "size": "weights",
    "latency": "latency",
    "activations": "activations",
    "memory": "inference memory",
    "training_memory": "training memory",
    "ram": "RAM",
    "flash": "flash",
}


def cost_value(counted: Counts | BudgetedCounts, name: str) -> int:
    """Return the value of a limited quantity, in whole units (latency in microseconds).

    Args:
        counted: The counts of a network.
        name: A key of :data:`LABELS`.

    Raises:
        BudgetError: The quantity is latency or memory, which was not predicted.
    """
    full = counted if isinstance(counted, BudgetedCounts) else BudgetedCounts(counted)
    counts = full.counts
    match name:
        case "latency":
            if full.microseconds is None:
                raise BudgetError(NO_PROFILE)
            return full.microseconds
        case "memory" | "training_memory" | "ram" | "flash":
            found: int | None = getattr(full, name)
            if found is None:
                raise BudgetError(f"{LABELS[name]} was not estimated; limit MACs or parameters instead")
            return found
        case "activations":
            return counts.activations
        case "macs":
            return counts.macs
        case "params":
            return counts.params
        case "size":
            return BYTES_PER_VALUE * (counts.params + counts.buffers)
        case _:
            raise AssertionError(name)


def format_cost(name: str, value: float) -> str:
    """Format a value with the unit of its limit.

    Example:
        >>> format_cost("macs", 4e8), format_cost("size", 2e7), format_cost("latency", 20_000)
        ('400M MACs', '20.0MB', '20 ms')
    """
    if name == "latency":
        return f"{value / MICROSECONDS:.3g} ms" if value < 1e6 else f"{value / 1e6:.3g} s"
    size = f"{si(value)}B" if value >= 1000 else f"{value:g} bytes"
    match name:
        case "macs":
            return f"{si(value)} MACs"
        case "size":
            return size
        case "memory" | "training_memory":
            return f"{size} {'' if name == 'memory' else 'training '}memory"
        case "ram" | "flash":
            return f"{size} {LABELS[name]}"
        case _:
            return f"{si(value)} {name}"


def _parse_all(forms: tuple[Any, ...]) -> dict[str, float]:
    limits: dict[str, float] = {}
    texts = (_THOUSANDS.sub(lambda number: number[0].replace(",", ""), str(form)) for form in forms)
    for form in (_MULT_ADDS.sub(" MACs", part.strip()) for text in texts for part in text.split(",")):
        memory, controller = _MEMORY.fullmatch(form), _MICROCONTROLLER.fullmatch(form)
        if controller is not None:
            name, value = "ram" if controller["ram"] else "flash", _parse_size(form, controller["amount"])
        else:
            name, value = _parse_speed(form) if memory is None else _parse_memory(form, memory)
        if memory is not None and memory["batch"] is not None:
            limits["training_batch"] = int(memory["batch"])
        if name in limits:
            raise BudgetError(f'the budget limits {LABELS[name]} twice, the second time as "{form}"; keep one')
        limits[name] = value
    if not limits:
        raise BudgetError(f"no budget given; write {FORMS}")
    return limits


def _parse_speed(form: str) -> tuple[str, float]:
    """Read a throughput as the time of one image, and other limits but memory."""
    speed = _THROUGHPUT.fullmatch(form)
    if speed is None:
        return _parse(form)
    milliseconds = 1000 / float(speed[1])
    if milliseconds < 1 / MICROSECONDS:
        raise BudgetError(f'the budget "{form}" is less than a microsecond for one image; write {FORMS}')
    return "latency", milliseconds


def _parse_memory(form: str, memory: re.Match[str]) -> tuple[str, float]:
    """Read ``30MB memory``, ``30MB inference memory`` or ``4GB training memory at batch 64``."""
    value = _parse_size(form, memory["amount"])
    training = (memory["of"] or "").strip().lower() == "training"
    if memory["batch"] is not None and (not training or int(memory["batch"]) < 1):
        raise BudgetError(f'cannot read the budget "{form}"; write {FORMS}')
    return "training_memory" if training else "memory", value


def _parse_size(form: str, amount: str) -> float:
    """Read an amount of bytes within a form."""
    name, value = _parse(amount)
    if name != "size":
        raise BudgetError(f'cannot read the budget "{form}"; write {FORMS}')
    return value


def _parse(form: str) -> tuple[str, float]:
    if form.lower() in DEVICE_BUDGETS:
        return "macs", DEVICE_BUDGETS[form.lower()][0]
    if flops := _FLOPS.fullmatch(form):
        amount = f"{flops['number']}{flops['prefix']}"
        raise BudgetError(
            f'the budget "{form}" is ambiguous: some call a multiplication with an addition one FLOP, as the '
            f'EfficientNet paper does, and some two; budgets count MACs, so write "{amount}" for the former, half of '
            "it for the latter"
        )
    match = _FORM.fullmatch(form)
    if match is None:
        raise BudgetError(f'cannot read the budget "{form}"; write {FORMS}')
    prefix, unit = match["prefix"], match["unit"]
    if unit in _MILLISECONDS and not prefix:
        milliseconds = float(match["number"]) * _MILLISECONDS[unit]
        if not (1 / MICROSECONDS <= milliseconds < math.inf):
            raise BudgetError(f'the budget "{form}" is less than a microsecond, or infinite; write {FORMS}')
        return "latency", milliseconds
    if unit == "B" and not prefix:
        raise BudgetError(
            f'the budget "{form}" could mean billions or bytes; write "{match["number"]}G" or "... bytes"'
        )
    name = _UNITS.get(unit if unit == "B" else unit.lower())
    if name is None:
        hint = f'; did you mean "{match["number"]}{unit.upper()}"?' if unit in ("m", "g", "t") else ""
        raise BudgetError(f'cannot read the budget "{form}"{hint or f"; write {FORMS}"}')
    if prefix in _BINARY and name != "size":
        raise BudgetError(f'the budget "{form}" counts {LABELS[name]} in binary units; write {FORMS}')
    if not prefix and not unit and float(match["number"]) < MIN_BARE_MACS:
        raise BudgetError(f'the budget "{form}" is very few MACs; give a unit, such as "{match["number"]}M"')
    value = float(match["number"]) * (_BINARY.get(prefix) or _PREFIX[prefix])
    if value < 1 or not math.isfinite(value):
        raise BudgetError(f'the budget "{form}" is not a positive amount; write {FORMS}')
    return name, value
