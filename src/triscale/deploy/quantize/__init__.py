"""int8 quantization with the quantizer of each engine; sensitive blocks stay in float, or no file is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines import Engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.executorch_quantizer import ExecuTorchQuantizer
from triscale.deploy.quantize.litert_quantizer import LiteRtQuantizer
from triscale.deploy.quantize.onnx_quantizer import OnnxQuantizer
from triscale.deploy.quantize.openvino_quantizer import OpenVinoQuantizer
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import UserError

QUANTIZERS: dict[str, Callable[[Exportable, NDArray[np.float32]], Quantizer]] = {
    "onnxruntime": OnnxQuantizer,
    "openvino": OpenVinoQuantizer,
    "executorch": ExecuTorchQuantizer,
    "litert": LiteRtQuantizer,
}
"""Quantizers by engine name, created from a model and normalized calibration images ``[N, 3, S, S]``."""


def get_quantizer(engine: Engine) -> Callable[[Exportable, NDArray[np.float32]], Quantizer]:
    """Return the quantizer class of an engine.

    Raises:
        UserError: The engine has no quantizer.
    """
    if engine.name not in QUANTIZERS:
        raise UserError(
            f"Triscale cannot quantize for {engine.title}; the engines with int8 are {', '.join(QUANTIZERS)}"
        )
    return QUANTIZERS[engine.name]
