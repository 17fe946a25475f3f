"""What the public functions accept: objects, or their text forms."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import UserError
from triscale.families.find import find_law
from triscale.network.custom import AnyNetwork
from triscale.scaling.budget import Budget
from triscale.scaling.law import Law

AnyNetworkLike = str | Path | AnyNetwork
"""A network, its name, its .json file, or ``package.module:function``."""
LawLike = str | Path | Law
"""A law, three numbers such as ``"1.2,1.1,1.15"``, a .json file, or the directory of a coefficient search."""
BudgetLike = str | float | Budget
"""A budget, its text such as ``"400M"`` or ``"20MB, 5M params"``, or a number of MACs."""


def as_law(law: LawLike) -> Law:
    """Return a scaling law that is given as an object or by its text form."""
    return law if isinstance(law, Law) else find_law(str(law))


def as_budget(budget: BudgetLike) -> Budget:
    """Return a budget that is given as an object, as text, or as a number of MACs."""
    match budget:
        case Budget():
            return budget
        case int() | float():
            return Budget(macs=budget)
        case _:
            return Budget.of(str(budget))


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
