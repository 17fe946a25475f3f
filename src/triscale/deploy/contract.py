"""The contract inside an exported file: preprocessing and class names, so that the file is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from triscale.errors import RecordError
from triscale.network.contract import SOFTMAX, Decision, Preprocessing
from triscale.record import SparseRecord

CONTRACT_KEY = "triscale"


class Contract(SparseRecord):
    """What an exported file needs to be used: the preprocessing of its input, and what its outputs mean.

    ``decision`` says how its outputs, logits, become an answer; it is left out of JSON for the most probable class.
    """

    kind_name: ClassVar[str] = "contract"
    sparse: ClassVar[tuple[str, ...]] = ("decision",)

    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    decision: Decision = SOFTMAX


def read_contract(text: str | None, file: Path) -> Contract:
    """Parse the contract of a file.

    Raises:
        RecordError: The file has no contract, or an invalid one.
    """
    if text is None:
        raise RecordError(f"{file} has no preprocessing contract; export it with triscale export")
    return Contract.from_json(text, source=f"the contract inside {file}")
