"""Engines that run exported files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as _state
from numpy.typing import NDArray

from triscale.errors import RecordError, UserError
from triscale.network.contract import Preprocessing
from triscale.record import Record

CONTRACT_KEY = "triscale"


class Contract(Record):
    """What an exported file needs to be used: the preprocessing of its input and the names of its outputs."""

    kind_name: ClassVar[str] = "contract"

    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]


class OnnxSession:
    """An ONNX file in ONNX Runtime on the CPU, of whatever origin; its first input are images.

    Raises:
        RecordError: ONNX Runtime cannot read it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (_state.InvalidProtobuf, _state.InvalidGraph, _state.NoSuchFile, _state.Fail) as error:
            raise RecordError(f"{path} is not an ONNX file that ONNX Runtime can read") from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._input = self._session.get_inputs()[0]
        self.shape: tuple[int | str | None, ...] = tuple(self._input.shape)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output for images ``[N, 3, H, W]``."""
        found: NDArray[np.float32] = self._session.run(None, {self._input.name: images})[0]
        return found


class OnnxModel:
    """An ONNX file with its contract, in ONNX Runtime on the CPU.

    Raises:
        RecordError: ONNX Runtime cannot read it, or it carries no contract.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._session = OnnxSession(path, threads)
        metadata = self._session.metadata
        if CONTRACT_KEY not in metadata:
            raise RecordError(f"{path} carries no preprocessing contract; export it with triscale export")
        self.contract = Contract.from_json(metadata[CONTRACT_KEY], source=f"the contract inside {path}")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``[N, classes]`` of normalized images ``[N, 3, resolution, resolution]``."""
        return self._session(images)


class OpenVinoSession:
    """An ONNX file, or one of OpenVINO, in OpenVINO on the CPU, in float32.

    Raises:
        RecordError: OpenVINO cannot read it.
        UserError: OpenVINO is not installed.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        core: Any = _openvino().Core()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise RecordError(f"{path} is not a file that OpenVINO can read") from error

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output for images ``[N, 3, H, W]``."""
        found: NDArray[np.float32] = self._request.infer({0: images})[0]
        return found


def _openvino() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError:
        raise UserError("OpenVINO is not installed; install it with: pip install 'triscale[openvino]'") from None
