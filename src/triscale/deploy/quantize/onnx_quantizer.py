"""int8 quantization for ONNX Runtime with its quantizer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from triscale.deploy.engines.onnx_runtime import to_onnx
from triscale.deploy.engines.quiet import converting
from triscale.deploy.exportable import Exportable
from triscale.deploy.graph import INPUT, OUTPUT
from triscale.deploy.onnx_file import write_onnx
from triscale.deploy.quantize.noise import Signals
from triscale.deploy.quantize.ranges import (
    COMPARED,
    Activations,
    ValueRange,
    best_by_logits,
    one_by_one,
    ways_of_ranges,
)
from triscale.network.tree import block_path

ROUNDED = "_DequantizeLinear_Output"
"""Suffix that the quantizer gives to a dequantized value."""
FAILED = "ONNX Runtime cannot quantize the model"
CLIPPING = ("Clip", "Relu")
OPERATIONS = sorted({*QLinearOpsRegistry, *QDQRegistry})
"""Operations that the quantizer supports."""


class OnnxQuantizer:
    """Quantizes with ONNX Runtime: per-channel weights, in the QuantizeLinear/DequantizeLinear (QDQ) format."""

    is_quick = True
    emulate = None

    def __init__(self, subject: Exportable, calibration: NDArray[np.float32]) -> None:
        self._contract = subject.contract
        self._calibration = calibration
        self._float = onnx.shape_inference.infer_shapes(to_onnx(subject))
        self._ends = ends_of(self._float)
        self._last = self._float
        self.blocks: Sequence[str] = tuple(self._ends)

    def quantize(self, float_blocks: Collection[str]) -> None:
        """Quantize the model in memory; some blocks stay float."""
        self._last = self._quantized(self._ranges, float_blocks)

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""
        self.quantize(float_blocks)
        write_onnx(self._last, self._contract, file)

    @cached_property
    def _ranges(self) -> TensorsData:
        """Ranges of all values of the float model, computed in the way that is best for the logits."""
        images = self._calibration[:COMPARED]
        return best_by_logits(
            (_tensors_data(ranges) for ranges in ways_of_ranges(self._activations).values()),
            lambda ranges: _logits(self._quantized(ranges, ()), images),
            _logits(self._float, images),
        )

    def _activations(self) -> Iterator[Activations]:
        proto = _copy(self._float)
        kinds = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
        names = [
            name
            for node in proto.graph.node
            for name in node.output
            if kinds.get(name, TensorProto.UNDEFINED) == TensorProto.FLOAT
        ]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = _session(proto)
        for image in one_by_one(self._calibration):
            yield {
                INPUT: image,
                **dict(zip((OUTPUT, *names), session.run([OUTPUT, *names], {INPUT: image}), strict=True)),
            }

    def _quantized(self, ranges: TensorsData, float_blocks: Collection[str]) -> onnx.ModelProto:
        with converting(FAILED):
            quantizer = QDQQuantizer(
                _copy(self._float),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=deepcopy(ranges),  # The quantizer modifies its arguments.
                nodes_to_quantize=[],
                nodes_to_exclude=[
                    node.name for node in self._float.graph.node if block_path(node.name) in float_blocks
                ],
                op_types_to_quantize=OPERATIONS,
                extra_options={},
            )
            quantizer.quantize_model()
        quantized: onnx.ModelProto = quantizer.model.model
        return quantized

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, 3, S, S]``: in float, and as last written."""
        return self._outputs(self._float, images), self._outputs(self._last, images)

    def _outputs(self, proto: onnx.ModelProto, images: NDArray[np.float32]) -> Signals:
        proto = _copy(proto)
        values = {name for node in proto.graph.node for name in node.output}
        # Quantization replaces a clipping activation: its output is then the dequantized value after it.
        clips = {name for node in self._float.graph.node if node.op_type in CLIPPING for name in node.output}
        dequantized = {
            block: f"{end}{ROUNDED}"
            for block, end in self._ends.items()
            if end in clips and f"{end}{ROUNDED}" in values
        }
        ends = {
            block: dequantized.get(block, end)
            for block, end in self._ends.items()
            if block in dequantized or end in values
        }
        declared = {value.name for value in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=end) for end in ends.values() if end not in declared)
        return dict(zip(ends, _run(proto, list(ends.values()), images), strict=True))


def ends_of(proto: onnx.ModelProto) -> dict[str, str]:
    """Return the last value of each block with weights, by block name, in the order of computation."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    weighted = {block_path(node.name) for node in proto.graph.node if weights & set(node.input)}
    return {block_path(node.name): node.output[0] for node in proto.graph.node if block_path(node.name) in weighted}


def _logits(proto: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return _run(proto, [OUTPUT], images)[0]


def _run(proto: onnx.ModelProto, names: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    outputs: list[NDArray[np.float32]] = _session(proto).run(names, {INPUT: images})
    return outputs


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _tensors_data(ranges: Mapping[str, ValueRange]) -> TensorsData:
    bounds = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, bounds)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied
