"""A family: what a law makes of a baseline at several phi, with the cost of each (STEP 2 of Tan & Le 2019)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field

from triscale.errors import BudgetError, UserError
from triscale.network.cost import Cost
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.apply import scale
from triscale.scaling.law import Law, Scale

MAX_MEMBERS = 64
_NUMBER = r"[+-]?\d+(?:\.\d*)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(\d+(?:\.\d*)?))?")


class FamilyMember(Record):
    """One network of a family; ``ratio`` is its MACs over the baseline's, ``nominal`` what the law says of it."""

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
    """The members that a law makes of a baseline, in the order of phi."""

    kind_name: ClassVar[str] = "family"

    baseline: str
    law: Law
    members: tuple[FamilyMember, ...] = Field(min_length=1)


def make_family(baseline: AnyNetwork, law: Law, phis: Sequence[float], count: Callable[[AnyNetwork], Cost]) -> Family:
    """Scale a baseline along a law to each phi; the member at phi 0 is the baseline itself.

    Args:
        baseline: any network.
        law: how it grows.
        phis: where on the law; fractions and negative numbers are as good as others.
        count: counts a network.

    Raises:
        BudgetError: a phi beyond what the law can scale to.
    """
    base = count(baseline)
    found = []
    for phi in phis:
        if abs(phi) > law.largest_phi:
            raise BudgetError(f"phi {phi:g} scales more than a thousandfold; give phi up to {law.largest_phi:.3g}")
        multipliers = law.at(phi)
        network = baseline if phi == 0 else scale(baseline, multipliers).replace(name=f"{baseline.name}_phi{phi:+g}")
        figures = count(network)
        found.append(
            FamilyMember(
                phi=phi,
                network=network,
                scale=multipliers,
                params=figures.params,
                macs=figures.macs,
                activations=figures.activations,
                size_bytes=figures.size_bytes,
                ratio=figures.macs / base.macs,
                nominal=law.nominal_growth**phi,
            )
        )
    return Family(baseline=baseline.name, law=law, members=tuple(found))


def read_phis(text: str) -> tuple[float, ...]:
    """Read written phis: numbers with commas, and ranges such as ``0..4`` or ``-1..1:0.5`` with a step.

    Raises:
        UserError: none of these, one twice, or too many.
    """
    found: list[float] = []
    for part in (word.strip() for word in text.split(",")):
        span = _RANGE.fullmatch(part)
        if span is not None:
            first, last, step = float(span[1]), float(span[2]), float(span[3] or 1)
            if step <= 0 or last < first or (last - first) / step >= MAX_MEMBERS:
                raise UserError(
                    f'"{part}" is no range of at most {MAX_MEMBERS} phis; write one such as 0..4 or 0..1:0.25'
                )
            found += [round(first + number * step, 10) for number in range(int((last - first) / step + 1e-9) + 1)]
        elif re.fullmatch(_NUMBER, part):
            found.append(float(part))
        else:
            raise UserError(f'"{part}" is no phi; write numbers with commas, or a range such as 0..4')
    if len(set(found)) < len(found) or len(found) > MAX_MEMBERS:
        raise UserError(f'"{text}" names a phi twice, or more than {MAX_MEMBERS}; every member is one')
    return tuple(sorted(found))
