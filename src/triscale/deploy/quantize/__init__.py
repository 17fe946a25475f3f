"""int8 files by each engine's own tool, with a guard: what breaks a network stays float, or no file is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines import Engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.executorch_tool import ExecuTorchTool
from triscale.deploy.quantize.onnx_tool import OnnxTool
from triscale.deploy.quantize.openvino_tool import OpenVinoTool
from triscale.deploy.quantize.quantizer import Tool
from triscale.errors import UserError

TOOLS: dict[str, Callable[[Exportable, NDArray[np.float32]], Tool]] = {
    "onnxruntime": OnnxTool,
    "openvino": OpenVinoTool,
    "executorch": ExecuTorchTool,
}
"""By the engines' names: a model and normalized calibration images ``[N, 3, S, S]`` make a tool."""


def get_tool(engine: Engine) -> Callable[[Exportable, NDArray[np.float32]], Tool]:
    """Return what quantizes for an engine.

    Raises:
        UserError: nothing does here.
    """
    if engine.name not in TOOLS:
        raise UserError(f"int8 for {engine.title} is not made here; the engines with int8 are {', '.join(TOOLS)}")
    return TOOLS[engine.name]
