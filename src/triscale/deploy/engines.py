"""Engines that run exported files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as _state
from numpy.typing import NDArray

from triscale.errors import RecordError
from triscale.network.contract import Preprocessing
from triscale.record import Record

CONTRACT_KEY = "triscale"


class Contract(Record):
    """What an exported file needs to be used: the preprocessing of its input and the names of its outputs."""

    kind_name: ClassVar[str] = "contract"

    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]


class OnnxModel:
    """An ONNX file in ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (_state.InvalidProtobuf, _state.InvalidGraph, _state.NoSuchFile, _state.Fail) as error:
            raise RecordError(f"{path} is not an ONNX file that ONNX Runtime can read") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if CONTRACT_KEY not in metadata:
            raise RecordError(f"{path} carries no preprocessing contract; export it with triscale export")
        self.contract = Contract.from_json(metadata[CONTRACT_KEY], source=f"the contract inside {path}")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``[N, classes]`` of normalized images ``[N, 3, resolution, resolution]``."""
        logits: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return logits
