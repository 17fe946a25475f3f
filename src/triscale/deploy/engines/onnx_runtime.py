"""ONNX files: export, and inference with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as _state
import torch
from numpy.typing import NDArray
from torch import nn

from triscale.deploy.contract import CONTRACT_KEY
from triscale.deploy.engines.program import program_of
from triscale.deploy.engines.quiet import converting
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.deploy.graph import INPUT, OUTPUT, network_graph
from triscale.deploy.onnx_file import with_half_weights, write_onnx
from triscale.deploy.onnx_safety import check_onnx
from triscale.errors import RecordError
from triscale.network.input_size import ImageShape

_REFUSALS = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
)


class OnnxSession:
    """An ONNX file of any origin, in ONNX Runtime on the CPU; its first input is the images.

    Raises:
        RecordError: The file is not safe to open, or ONNX Runtime cannot read it.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        check_onnx(file)
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            raise RecordError(f"{file} is not an ONNX file that ONNX Runtime can read") from error
        self.contract_text: str | None = dict(self._session.get_modelmeta().custom_metadata_map).get(CONTRACT_KEY)
        self._input = self._session.get_inputs()[0]
        self.input_shape = fixed_shape(self._input.shape[1:])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output for images ``[N, C, H, W]``."""
        return self.outputs(images)[0]

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return all outputs for images ``[N, C, H, W]``."""
        outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input.name: images})
        return outputs


def write(subject: Exportable, file: Path, *, half: bool = False) -> None:
    """Write a model as ONNX, for any batch size, with its contract; its outputs are not checked.

    Args:
        subject: The model.
        file: The file.
        half: Whether its weights are stored in float16; operations are computed in float32 even so.

    Raises:
        ExportError: An operation of the model cannot be converted, or the result is not valid ONNX.
    """
    proto = to_onnx(subject)
    write_onnx(with_half_weights(proto) if half else proto, subject.contract, file)


def to_onnx(subject: Exportable) -> onnx.ModelProto:
    """Return a model as an ONNX graph: written from its Network's operation tree, or traced if it is a custom model.

    Raises:
        ExportError: An operation of the model cannot be converted.
    """
    if subject.network is not None:
        return network_graph(subject.network, subject.state)
    return traced(subject.model, subject.input_shape)


def traced(model: nn.Module, input_shape: ImageShape) -> onnx.ModelProto:
    """Export a module with torch's exporter and a dynamic batch dimension; the exporter's output is suppressed.

    Raises:
        ExportError: An operation of the model cannot be converted.
    """
    exported = program_of(model, input_shape)
    with converting("the model cannot be converted to ONNX"):
        program = torch.onnx.export(exported, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT])
    assert program is not None
    return program.model_proto
