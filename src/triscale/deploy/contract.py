"""The contract inside an exported file: preprocessing and class names, so that the file is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from triscale.errors import RecordError
from triscale.network.contract import SOFTMAX, Decision, Preprocessing
from triscale.record import Record

CONTRACT_KEY = "triscale"


class Contract(Record):
    """What an exported file needs to be used: the preprocessing of its input, and what its outputs mean.

    ``decision`` says how its outputs, logits, become an answer; it is left out of JSON for the most probable class.
    """

    kind_name: ClassVar[str] = "contract"

    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    decision: Decision = SOFTMAX

    @model_serializer(mode="wrap")
    def _leave_out_softmax(self, to_plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in to_plain(self).items() if key != "decision" or self.decision != SOFTMAX}


def read_contract(text: str | None, file: Path) -> Contract:
    """Parse the contract of a file.

    Raises:
        RecordError: The file has no contract, or an invalid one.
    """
    if text is None:
        raise RecordError(f"{file} has no preprocessing contract; export it with triscale export")
    return Contract.from_json(text, source=f"the contract inside {file}")
