"""OpenVINO files (a structure .xml with its weights .bin): export, and inference of these and of ONNX files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.contract import CONTRACT_KEY, Contract
from triscale.deploy.engines.onnx_runtime import to_onnx
from triscale.deploy.engines.quiet import converting
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.errors import RecordError
from triscale.optional_import import load

WEIGHTS = ".bin"
FLOAT32, FLOAT16, BFLOAT16 = "f32", "f16", "bf16"
"""Precisions by the names of OpenVINO's hint."""
_INFO = "triscale"
_PRECISION = "inference_precision"
_DIGEST = "weights_sha256"


class OpenVinoSession:
    """An OpenVINO or ONNX file in OpenVINO on the CPU.

    Float operations are computed in ``precision``; by default in that of the file, which is float32 unless Triscale
    wrote another into it. OpenVINO itself reads no precision from a file: its default is bfloat16 where the processor
    has it. Where it does not, bfloat16 is computed in float32.

    The model is compiled separately for a batch of one image, which is faster; all other batch sizes share a second
    compilation.

    Raises:
        RecordError: OpenVINO cannot read the file, or its weights file does not match.
        UserError: OpenVINO is not installed.
    """

    def __init__(self, file: Path, threads: int = 0, precision: str | None = None) -> None:
        self._core = core()
        self._settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            # OpenVINO would pin each file to cores of its choice; here the caller sets the affinity.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = str(threads)
        if not file.is_file():
            raise RecordError(f"there is no file {file}")
        try:
            self._model = self._core.read_model(str(file))
        except RuntimeError as error:
            raise RecordError(f"{file} is not a file that OpenVINO can read") from error
        self._settings["INFERENCE_PRECISION_HINT"] = precision or _info(self._model, _PRECISION) or FLOAT32
        self.contract_text = _info(self._model, CONTRACT_KEY)
        digest = _info(self._model, _DIGEST)
        weights = file.with_suffix(WEIGHTS)
        if digest is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
            raise RecordError(
                f"{weights} does not hold the weights that were written with {file}; export the run again"
            )
        shape = self._model.inputs[0].get_partial_shape()
        self.input_shape = fixed_shape([side.get_length() if side.is_static else None for side in list(shape)[1:]])
        self._requests: dict[bool, Any] = {}

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output for images ``[N, C, H, W]``."""
        return self.outputs(images)[0]

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return all outputs for images ``[N, C, H, W]``."""
        single = len(images) == 1
        if single not in self._requests:
            model = self._model
            if single:
                model = model.clone()
                model.reshape({0: list(images.shape)})
            self._requests[single] = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        outputs = self._requests[single].infer({0: images})
        # OpenVINO owns the returned memory and overwrites it in the next call.
        return [outputs[number].copy() for number in range(len(self._model.outputs))]


def core() -> Any:
    """Return OpenVINO's core.

    Raises:
        UserError: OpenVINO is not installed.
    """
    return load("openvino", "OpenVINO", "openvino").Core()


def bfloat16_obstacle() -> str:
    """Return why this processor does not compute in bfloat16; empty if it does."""
    if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return ""
    return "this processor has no bfloat16 instructions"


def write(subject: Exportable, file: Path, precision: str = FLOAT32) -> None:
    """Write a model as an OpenVINO file with its contract inside; the file is not checked.

    In float16, its weights are stored in float16, and computed with in float32. Otherwise they are in float32, and the
    precision says how Triscale opens the file.

    Raises:
        ExportError: An operation of the model cannot be converted.
        UserError: OpenVINO is not installed.
    """
    engine = core()
    proto = to_onnx(subject)
    with converting("OpenVINO cannot convert the model"):
        model = engine.read_model(proto.SerializeToString())
    if precision == BFLOAT16:
        model.set_rt_info(precision, [_INFO, _PRECISION])
    save(model, subject.contract, file, half=precision == FLOAT16)


def model_info(contract: Contract) -> dict[str, str]:
    """Return what OpenVINO's own programs need to know about a classifier, by the names that they use.

    Values are separated by spaces, so that a space in a class name becomes an underscore. Mean and scale are for values
    from 0 to 255, and those programs read frames as BGR.

    Example:
        >>> from triscale.network.contract import Preprocessing
        >>> preprocessing = Preprocessing(resolution=64, mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> found = model_info(Contract(network="net", preprocessing=preprocessing, classes=("red fox", "dog")))
        >>> found["labels"], found["mean_values"]
        ('red_fox dog', '127.5 127.5 127.5')
    """
    images = contract.preprocessing
    interpolation = {"nearest": "NEAREST", "bilinear": "LINEAR", "bicubic": "CUBIC"}[images.interpolation]
    return {
        "model_type": "Classification",
        "labels": " ".join(name.replace(" ", "_") for name in contract.classes),
        "mean_values": " ".join(f"{255 * value:.6g}" for value in images.mean),
        "scale_values": " ".join(f"{255 * value:.6g}" for value in images.std),
        "resize_type": "crop",
        "interpolation_type": interpolation,
        "reverse_input_channels": str(images.channels == 3),
        "multilabel": str(contract.decision.link == "sigmoid"),
    }


def save(model: Any, contract: Contract, file: Path, *, half: bool = False) -> None:
    """Write an OpenVINO model: the weights, then the structure with the contract and the digest of the weights.

    The contract also stands in ``model_info``, as OpenVINO's Model API and DL Streamer read it.
    """
    engine = load("openvino", "OpenVINO", "openvino")
    model.set_rt_info(contract.to_json(), [_INFO, CONTRACT_KEY])
    for name, value in model_info(contract).items():
        model.set_rt_info(value, ["model_info", name])
    engine.save_model(model, str(file), compress_to_fp16=half)
    digest = hashlib.sha256(file.with_suffix(WEIGHTS).read_bytes()).hexdigest()
    model.set_rt_info(digest, [_INFO, _DIGEST])
    engine.save_model(model, str(file), compress_to_fp16=half)


def _info(model: Any, key: str) -> str | None:
    return str(model.get_rt_info([_INFO, key]).astype(str)) if model.has_rt_info([_INFO, key]) else None
