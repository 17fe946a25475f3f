"""The contract inside an exported file: preprocessing and class names, so that the file is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from triscale.errors import RecordError
from triscale.network.contract import SOFTMAX, Decision, Preprocessing, WeightsOrigin
from triscale.record import SparseRecord

CONTRACT_KEY = "triscale"


class Contract(SparseRecord):
    """What an exported file needs to be used: the preprocessing of its input, and what its outputs mean.

    ``decision`` says how its outputs, logits, become an answer; it is left out of JSON for the most probable class.
    ``origins`` are the published or imported weights that the network learned from, with their licenses; they are left
    out of JSON if there are none.
    """

    kind_name: ClassVar[str] = "contract"
    sparse: ClassVar[tuple[str, ...]] = ("decision", "origins")

    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    decision: Decision = SOFTMAX
    origins: tuple[WeightsOrigin, ...] = ()


def read_contract(text: str | None, file: Path) -> Contract:
    """Parse the contract of a file.

    Raises:
        RecordError: The file has no contract, or an invalid one.
    """
    if text is None:
        raise RecordError(f"{file} has no preprocessing contract; export it with triscale export")
    return Contract.from_json(text, source=f"the contract inside {file}")
