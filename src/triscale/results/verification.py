"""What the verification of a run found."""

from __future__ import annotations

from typing import ClassVar, Literal

from triscale.record import Record
from triscale.results.machine import Machine

Outcome = Literal["passed", "within tolerance", "failed", "not checked"]


class VerifiedCheck(Record):
    """One check of a run.

    Attributes:
        name: What was checked.
        outcome: ``passed`` means equal, bit by bit where it is about numbers; ``within tolerance`` means nearly equal
            where this machine or its software differs from what the run records.
        detail: What was compared, what differs, or why it was not checked.
    """

    name: str
    outcome: Outcome
    detail: str


class Verification(Record):
    """The checks of a run, on this machine.

    Attributes:
        run: The folder of the run.
        differences: How this machine and its software differ from what the run records, as far as results depend on it;
            with any, results that are not equal are compared within a tolerance.
        checks: The checks in their order.
        machine: This machine.
    """

    kind_name: ClassVar[str] = "verification"

    run: str
    differences: tuple[str, ...]
    checks: tuple[VerifiedCheck, ...]
    machine: Machine

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[VerifiedCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")
