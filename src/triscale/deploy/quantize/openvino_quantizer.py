"""int8 quantization for OpenVINO by NNCF."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines.onnx_runtime import to_onnx
from triscale.deploy.engines.openvino import core, save
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.noise import Signals
from triscale.deploy.quantize.onnx_quantizer import ends_of
from triscale.deploy.quantize.ranges import COMPARED, best_by_logits
from triscale.optional_import import load


class OpenVinoQuantizer:
    """Quantizes with NNCF: per-channel weights, asymmetric activations.

    Raises:
        UserError: NNCF or OpenVINO is not installed.
    """

    is_quick = False
    emulate = None

    def __init__(self, subject: Exportable, calibration: NDArray[np.float32]) -> None:
        self._contract = subject.contract
        self._calibration = calibration
        self._core = core()
        with quiet_process():
            self._nncf: Any = load("nncf", "NNCF, which quantizes for OpenVINO,", "openvino")
        proto = to_onnx(subject)
        self._ends = ends_of(proto)
        self._float = self._core.read_model(proto.SerializeToString())
        self._last: Any = None
        self.blocks: Sequence[str] = tuple(self._ends)

    def quantize(self, float_blocks: Collection[str]) -> None:
        """Quantize the model in memory; some blocks stay float."""
        self._last = self._quantized(self._ranges, float_blocks)

    @cached_property
    def _ranges(self) -> Any:
        """How NNCF computes ranges of activations, by the logits of calibration images.

        Its default (None) are the means of each image's extremes, which clip features that are large in few images.
        """
        ways = load("nncf.quantization.range_estimator", "NNCF", "openvino").RangeEstimatorParametersSet
        images = self._calibration[:COMPARED]
        return best_by_logits(
            (ways.HISTOGRAM, ways.MINMAX, None),
            lambda ranges: self._results(self._quantized(ranges, ()), images)[0],
            self._results(self._float, images)[0],
        )

    def _quantized(self, ranges: Any, float_blocks: Collection[str]) -> Any:
        patterns = [rf"^{re.escape(block)}([./].*)?$" for block in float_blocks]
        with converting("NNCF cannot quantize the model"):
            return self._nncf.quantize(
                self._float,
                self._nncf.Dataset([image[None] for image in self._calibration]),
                preset=self._nncf.QuantizationPreset.MIXED,
                subset_size=len(self._calibration),
                ignored_scope=self._nncf.IgnoredScope(patterns=patterns, validate=False) if patterns else None,
                advanced_parameters=ranges
                and self._nncf.AdvancedQuantizationParameters(activations_range_estimator_params=ranges),
            )

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""
        self.quantize(float_blocks)
        save(self._last, self._contract, file)

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, 3, S, S]``: in float, and as last written."""
        return self._outputs(self._float, images), self._outputs(self._last, images)

    def _outputs(self, model: Any, images: NDArray[np.float32]) -> Signals:
        model = model.clone()
        names = {op.get_friendly_name() for op in model.get_ops()}
        ends = {block: end for block, end in self._ends.items() if end in names}
        model.add_outputs([(end, 0) for end in ends.values()])
        first = len(model.outputs) - len(ends)
        return dict(zip(ends, self._results(model, images)[first:], strict=True))

    def _results(self, model: Any, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        outputs = self._core.compile_model(model, "CPU", settings).create_infer_request().infer({0: images})
        return [outputs[number].copy() for number in range(len(model.outputs))]
