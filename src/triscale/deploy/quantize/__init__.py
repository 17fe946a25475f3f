"""int8 files by each engine's own tool, with a guard: what breaks a network stays float, or no file is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines import Engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.executorch_quantizer import ExecuTorchQuantizer
from triscale.deploy.quantize.onnx_quantizer import OnnxQuantizer
from triscale.deploy.quantize.openvino_quantizer import OpenVinoQuantizer
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import UserError

QUANTIZERS: dict[str, Callable[[Exportable, NDArray[np.float32]], Quantizer]] = {
    "onnxruntime": OnnxQuantizer,
    "openvino": OpenVinoQuantizer,
    "executorch": ExecuTorchQuantizer,
}
"""By the engines' names: a model and normalized calibration images ``[N, 3, S, S]`` make a tool."""


def get_quantizer(engine: Engine) -> Callable[[Exportable, NDArray[np.float32]], Quantizer]:
    """Return what quantizes for an engine.

    Raises:
        UserError: Nothing does here.
    """
    if engine.name not in QUANTIZERS:
        raise UserError(f"int8 for {engine.title} is not made here; the engines with int8 are {', '.join(QUANTIZERS)}")
    return QUANTIZERS[engine.name]
