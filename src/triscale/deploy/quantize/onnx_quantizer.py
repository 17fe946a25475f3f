"""int8 quantization for ONNX Runtime with its quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from triscale.deploy.engines.onnx_runtime import to_onnx
from triscale.deploy.engines.quiet import converting
from triscale.deploy.exportable import Exportable
from triscale.deploy.graph import INPUT, OUTPUT
from triscale.deploy.onnx_file import write_onnx
from triscale.deploy.quantize.noise import Signals, signal_to_noise_ratio
from triscale.network.tree import block_path

ROUNDED = "_DequantizeLinear_Output"
"""Suffix that the quantizer gives to a dequantized value."""
FAILED = "ONNX Runtime cannot quantize the model"
CLIPPING = ("Clip", "Relu")
OPERATIONS = sorted({*QLinearOpsRegistry, *QDQRegistry})
"""Operations that the quantizer supports."""
COMPARED = 64
"""Number of calibration images for comparing two ways to compute ranges."""


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
        """Calibration ranges: minimum and maximum over all images, or means of each image's minimum and maximum.

        With the former, one outlier image coarsens the steps for all others; with the latter, values that are large in
        few images are clipped. The ranges with the higher median signal-to-noise ratio of the logits are used.
        """
        images = self._calibration[:COMPARED]
        exact = _logits(self._float, images)

        def signal(ranges: TensorsData) -> float:
            logits = _logits(self._quantized(ranges, ()), images)
            return float(np.median([signal_to_noise_ratio(*pair) for pair in zip(exact, logits, strict=True)]))

        return max((self._calibrated(as_means=False), self._calibrated(as_means=True)), key=signal)

    def _calibrated(self, *, as_means: bool) -> TensorsData:
        with tempfile.TemporaryDirectory() as folder, converting(FAILED):
            plain = Path(folder) / "float.onnx"
            onnx.save(self._float, plain)
            calibrator = create_calibrator(
                plain,
                OPERATIONS,
                str(Path(folder) / "watched.onnx"),
                extra_options={"moving_average": as_means},
            )
            calibrator.collect_data(_Reader(self._calibration))
            return calibrator.compute_data()

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


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the calibration images one by one."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def ends_of(proto: onnx.ModelProto) -> dict[str, str]:
    """Return the last value of each block with weights, by block name, in the order of computation."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    weighted = {block_path(node.name) for node in proto.graph.node if weights & set(node.input)}
    return {block_path(node.name): node.output[0] for node in proto.graph.node if block_path(node.name) in weighted}


def _logits(proto: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return _run(proto, [OUTPUT], images)[0]


def _run(proto: onnx.ModelProto, names: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(names, {INPUT: images})
    return outputs


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied
