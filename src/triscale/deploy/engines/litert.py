"""LiteRT (TensorFlow Lite) files for phones and microcontrollers.

The converter is installed in a separate environment (``examples/litert.sh``), since it needs another torch than other
engines; the interpreter needs none. The contract is in a zip archive at the end of the file, where TensorFlow Lite
stores associated files, and in its metadata, see :mod:`triscale.deploy.engines.litert_metadata`.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.deploy.contract import CONTRACT_KEY, Contract
from triscale.deploy.engines.litert_metadata import LABELS_FILE, unpacked, with_metadata
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.errors import ExportError, RecordError
from triscale.optional_import import load

_MEMBER = f"{CONTRACT_KEY}.json"
_EVERYTHING = "*"
"""What the recipes of LiteRT's quantizer call all operations that an algorithm supports."""
FLOAT32_TENSOR = 0
"""The number of the type in the schema of LiteRT."""


class LiteRtSession:
    """A LiteRT file on the CPU, one image at a time.

    The input and the output of an int8 file are int8; they are converted by the scale and the zero point in the file.

    Raises:
        RecordError: LiteRT cannot read the file.
        UserError: LiteRT is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        engine = load("ai_edge_litert.interpreter", "LiteRT", "litert")
        with quiet_process():
            try:
                self._interpreter = engine.Interpreter(model_path=str(file), num_threads=threads or None)
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise RecordError(f"{file} is not a file that LiteRT can read") from error
        self.contract_text = _contract(file)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.input_shape = fixed_shape([int(side) for side in self._input["shape"][1:]])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for images ``[N, C, H, W]``."""
        return np.concatenate([self._one(image[None]) for image in images])

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input["index"], rounded(image, self._input))
        self._interpreter.invoke()
        return real(self._interpreter.get_tensor(self._output["index"]), self._output)


def rounded(values: NDArray[np.float32], details: Mapping[str, Any]) -> NDArray[Any]:
    """Return values as a tensor of LiteRT takes them, by its details: integers if it is quantized.

    Example:
        >>> rounded(np.array([0.1, 0.26, 99]), {"dtype": np.int8, "quantization": (0.1, 3)}).tolist()
        [4, 6, 127]
    """
    scale, zero = details["quantization"]
    if not scale:
        return np.ascontiguousarray(values)
    limits = np.iinfo(details["dtype"])
    found: NDArray[Any] = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])
    return found


def real(values: NDArray[Any], details: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the real values of a tensor of LiteRT, by its details.

    Example:
        >>> real(np.array([4, 6], np.int8), {"quantization": (0.5, 2)}).tolist()
        [1.0, 2.0]
    """
    scale, zero = details["quantization"]
    return np.asarray(scale * (values.astype(np.float32) - zero) if scale else values, dtype=np.float32)


def write(subject: Exportable, file: Path, *, half: bool = False) -> None:
    """Write a model as a LiteRT file for one image, with its contract inside; the file is not checked.

    Args:
        subject: The model.
        file: The file.
        half: Whether its weights are stored in float16; operations are computed in float32 even so.

    Raises:
        ExportError: An operation of the model cannot be converted, or LiteRT's converter is not installed.
    """
    content = converted(subject)
    save(_in_half(content) if half else content, subject.contract, file)


def converted(subject: Exportable) -> bytes:
    """Return a model as a LiteRT file for one image, without a contract.

    Raises:
        ExportError: An operation of the model cannot be converted, or LiteRT's converter is not installed.
    """
    converter = load_converter("litert_torch")
    example = (torch.zeros(1, *subject.input_shape),)
    with tempfile.TemporaryDirectory() as folder, converting("LiteRT cannot convert the model"):
        file = Path(folder) / "model.tflite"
        converter.convert(subject.model, example).export(str(file))
        return file.read_bytes()


def _in_half(content: bytes) -> bytes:
    """Return a LiteRT file whose weights are stored in float16; LiteRT converts them to float32 when it is opened.

    LiteRT's quantizer leaves biases and other constants in float32. It would make infinities of weights that float16
    cannot hold, so their operators are left out.

    Raises:
        ExportError: LiteRT's quantizer is not installed, or refuses the file.
    """
    module = load_converter("ai_edge_quantizer.quantizer")
    with quiet_process(), converting("LiteRT's quantizer cannot store the weights in float16"):
        work = module.Quantizer(bytearray(content))
        work.add_weight_only_config(".*", _EVERYTHING, num_bits=16, algorithm_key=module.AlgorithmName.FLOAT_CASTING)
        leave_out(work, _with_large_weights(content))
        return bytes(work.quantize(enable_progress_report=False).quantized_model)


def leave_out(work: Any, operators: Iterable[Iterable[str]]) -> None:
    """Tell a quantizer of LiteRT to leave operators as they are.

    Args:
        work: The quantizer, with a recipe.
        operators: The names of the outputs of each operator.
    """
    # The quantizer calls an operator by its outputs, each with a semicolon behind it.
    names = ["".join(f"{name};" for name in outputs) for outputs in operators]
    if names:
        work.update_quantization_recipe(
            regex=f"^(?:{'|'.join(map(re.escape, names))})$",
            operation_name=_EVERYTHING,
            algorithm_key=load_converter("ai_edge_quantizer.quantizer").AlgorithmName.NO_QUANTIZE,
        )


def _with_large_weights(content: bytes) -> list[list[str]]:
    """Return the names of the outputs of each operator with weights that float16 cannot hold."""
    model = unpacked(content)
    graph, largest = model.subgraphs[0], np.finfo(np.float16).max

    def is_large(tensor: Any) -> bool:
        values = model.buffers[tensor.buffer].data
        if tensor.type != FLOAT32_TENSOR or len(tensor.shape) < 2 or values is None:
            return False
        return bool(np.abs(values.view(np.float32)).max(initial=0) > largest)

    large = {number for number, tensor in enumerate(graph.tensors) if is_large(tensor)}
    return [
        [graph.tensors[number].name.decode() for number in operator.outputs]
        for operator in graph.operators
        if not large.isdisjoint(operator.inputs)
    ]


def save(content: bytes, contract: Contract, file: Path) -> None:
    """Write a LiteRT file with a contract and the metadata by which other programs know its input and labels."""
    file.write_bytes(with_metadata(content, contract))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(LABELS_FILE, "".join(f"{name}\n" for name in contract.classes))
        archive.writestr(_MEMBER, contract.to_json())


def load_converter(module: str) -> Any:
    """Import a module of LiteRT's converter.

    Raises:
        ExportError: It is not installed.
    """
    try:
        with quiet_process():
            return importlib.import_module(module)
    except ImportError:
        raise ExportError(
            "LiteRT's converter is not installed: it needs a separate environment with another torch; "
            "examples/litert.sh creates it and exports a run in it"
        ) from None


def _contract(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read(_MEMBER).decode() if _MEMBER in archive.namelist() else None
    except zipfile.BadZipFile:
        return None
