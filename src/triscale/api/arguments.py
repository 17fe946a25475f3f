"""What the public functions accept: objects, or their text forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triscale.errors import UserError
from triscale.families.find import find_law
from triscale.jobs.core.durations import seconds_of
from triscale.network.custom import AnyNetwork
from triscale.scaling.budget import Budget
from triscale.scaling.law import Law
from triscale.scaling.piecewise import AnyLaw, PiecewiseLaw

AnyNetworkLike = str | Path | AnyNetwork
"""A network, its name, its .json file, or ``package.module:function``."""
LawLike = str | Path | AnyLaw
"""A law, its name as ``"dwr"``, three numbers as ``"1.2,1.1,1.15"``, a .json file, or the directory of a search."""
BudgetLike = str | float | Budget
"""A budget, its text such as ``"400M"`` or ``"20MB, 5M params"``, or a number of MACs."""


def as_law(law: LawLike) -> AnyLaw:
    """Return a scaling law that is given as an object or by its text form."""
    return law if isinstance(law, Law | PiecewiseLaw) else find_law(str(law))


def as_laws(laws: Sequence[LawLike]) -> dict[str, AnyLaw]:
    """Return scaling laws by their text forms, or by their descriptions if they are given as objects.

    Raises:
        UserError: A law is given twice, or there is none.
    """
    found = {str(law): as_law(law) for law in laws}
    if not found or len(found) < len(laws):
        raise UserError(f"laws={list(map(str, laws))}: give each law once, at least one, such as ('paper', 'dwr')")
    return found


def as_budget(budget: BudgetLike) -> Budget:
    """Return a budget that is given as an object, as text, or as a number of MACs."""
    match budget:
        case Budget():
            return budget
        case int() | float():
            return Budget(macs=budget)
        case _:
            return Budget.of(str(budget))


def as_seconds(name: str, time: str | float | None) -> float | None:
    """Return a duration that is given in seconds or as text such as ``"20m"``; None stays None.

    Raises:
        UserError: It is not a positive duration.

    Example:
        >>> as_seconds("time_limit", "1h30m"), as_seconds("time_limit", 90)
        (5400.0, 90.0)
    """
    if time is None or isinstance(time, str):
        return None if time is None else seconds_of(name, time)
    if not time > 0:
        raise UserError(f"{name}={time:g}: give a duration of more than 0")
    return float(time)


def positive(number: int, what: str) -> int:
    """Return a number of at least 1.

    Raises:
        UserError: It is less.

    Example:
        >>> positive(2, "threads")
        2
    """
    if number < 1:
        raise UserError(f"{number} {what} are not possible; give 1 or more")
    return number
