"""Families: a baseline scaled by a law at several phi, with the cost of each member (STEP 2 of Tan & Le 2019)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field

from triscale.errors import UserError
from triscale.network.cost import Cost
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.apply import network_at
from triscale.scaling.law import Scale, check_phi
from triscale.scaling.piecewise import AnyLaw

MAX_MEMBERS = 64
_NUMBER = r"[+-]?\d+(?:\.\d*)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(\d+(?:\.\d*)?))?")


class FamilyMember(Record):
    """One network of a family.

    Attributes:
        phi: The compound coefficient.
        network: The scaled network.
        scale: The multipliers at phi.
        params: Trainable parameters.
        macs: Multiply-accumulate operations.
        activations: Values in the outputs of all convolutions and linear layers.
        size_bytes: Size of the weights as float32.
        ratio: MACs relative to the baseline.
        nominal: The same ratio according to the law, before rounding.
    """

    phi: float
    network: AnyNetwork
    scale: Scale
    params: int
    macs: int
    activations: int
    size_bytes: int
    ratio: float
    nominal: float


class Family(Record):
    """The networks that a law scales a baseline to.

    Attributes:
        baseline: Name of the baseline.
        law: The scaling law.
        members: The networks, in the order of phi.
    """

    kind_name: ClassVar[str] = "family"

    baseline: str
    law: AnyLaw
    members: tuple[FamilyMember, ...] = Field(min_length=1)


def make_family(
    baseline: AnyNetwork, law: AnyLaw, phis: Sequence[float], count: Callable[[AnyNetwork], Cost]
) -> Family:
    """Scale a baseline by a law to each phi; where phi 0 changes nothing, that member is the baseline itself.

    Args:
        baseline: Any network.
        law: The scaling law.
        phis: The compound coefficients; fractions and negative numbers are allowed.
        count: Returns the cost of a network.

    Raises:
        BudgetError: A phi scales a dimension by more than 1,000 or less than 1/1,000.

    Example:
        >>> from triscale.families import get
        >>> from triscale.network.cost import cost
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> family = make_family(get("efficientnet_b0"), EFFICIENTNET, (0, 1), cost)
        >>> [member.network.name for member in family.members], round(family.members[1].ratio, 2)
        (['efficientnet_b0', 'efficientnet_b0_phi+1'], 2.23)
    """
    base = count(baseline)
    members = []
    for phi in phis:
        multipliers = law.at(check_phi(law, phi))
        network = network_at(baseline, law, phi)
        if phi == 0 and network.structure == baseline.structure:
            network = baseline
        figures = count(network)
        members.append(
            FamilyMember(
                phi=phi,
                network=network,
                scale=multipliers,
                params=figures.params,
                macs=figures.macs,
                activations=figures.activations,
                size_bytes=figures.size_bytes,
                ratio=figures.macs / base.macs,
                nominal=law.nominal(phi),
            )
        )
    return Family(baseline=baseline.name, law=law, members=tuple(members))


def read_phis(text: str) -> tuple[float, ...]:
    """Parse phis: numbers separated by commas, and ranges such as ``0..4`` or, with a step, ``-1..1:0.5``.

    Raises:
        UserError: The text cannot be parsed, repeats a phi, or has more than :data:`MAX_MEMBERS`.

    Example:
        >>> read_phis("0..1:0.5, 3")
        (0.0, 0.5, 1.0, 3.0)
    """
    phis: list[float] = []
    for part in (word.strip() for word in text.split(",")):
        span = _RANGE.fullmatch(part)
        if span is not None:
            first, last, step = float(span[1]), float(span[2]), float(span[3] or 1)
            if step <= 0 or last < first or (last - first) / step >= MAX_MEMBERS:
                raise UserError(
                    f'"{part}" is not a range of at most {MAX_MEMBERS} phis; write one such as 0..4 or 0..1:0.25'
                )
            phis += [round(first + number * step, 10) for number in range(int((last - first) / step + 1e-9) + 1)]
        elif re.fullmatch(_NUMBER, part):
            phis.append(float(part))
        else:
            raise UserError(f'"{part}" is not a phi; write numbers separated by commas, or a range such as 0..4')
    if len(set(phis)) < len(phis) or len(phis) > MAX_MEMBERS:
        raise UserError(f'"{text}" repeats a phi, or has more than {MAX_MEMBERS}; give each phi once')
    return tuple(sorted(phis))
