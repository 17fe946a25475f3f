"""int8 quantization for ExecuTorch's XNNPACK backend by torchao."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from triscale.deploy.engines.executorch import MAX_BATCH, program_of, save
from triscale.deploy.engines.optional_import import load
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.noise import Signals
from triscale.network.tree import block_path

_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
_STEPS = "torchao.quantization.pt2e.quantize_pt2e"


class ExecuTorchQuantizer:
    """Quantizes for XNNPACK: symmetric per-channel weights, asymmetric activations.

    Raises:
        UserError: ExecuTorch is not installed.
        ExportError: Torch cannot export the model.
    """

    is_quick = False

    def __init__(self, subject: Exportable, calibration: NDArray[np.float32]) -> None:
        self._subject = subject
        self._calibration = torch.from_numpy(calibration)
        with quiet_process():
            self._quantizers, self._steps = (
                load(module, "ExecuTorch", "executorch") for module in (_QUANTIZER, _STEPS)
            )
        self._float: fx.GraphModule = program_of(subject.model, subject.input_shape).module()
        self._last: Any = self._float
        weighted = (name.rpartition(".")[0] for name, value in subject.model.named_parameters() if value.ndim > 1)
        self.blocks: Sequence[str] = tuple(dict.fromkeys(map(block_path, weighted)))

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""
        with converting("torchao cannot quantize the model"):
            quantizer = self._quantizers.XNNPACKQuantizer()
            quantizer.set_global(self._quantizers.get_symmetric_quantization_config(is_per_channel=True))
            quantizer.set_filter_function(lambda node: _block(node) not in float_blocks)
            # Exported again, since preparation changes the graph in place.
            graph = program_of(self._subject.model, self._subject.input_shape).module()
            prepared = self._steps.prepare_pt2e(graph, quantizer)
            with torch.no_grad():
                for part in torch.split(self._calibration, MAX_BATCH):
                    prepared(part)
            self._last = self._steps.convert_pt2e(prepared)
        save(program_of(self._last, self._subject.input_shape), self._subject, file)

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, 3, S, S]``: in float, and as last written."""
        return self._outputs(self._float, images), self._outputs(self._last, images)

    def _outputs(self, graph: fx.GraphModule, images: NDArray[np.float32]) -> Signals:
        recorder = _Recorder(graph)
        with torch.no_grad(), quiet_process():
            recorder.run(torch.from_numpy(images))
        return {block: recorder.found[block] for block in self.blocks if block in recorder.found}


class _Recorder(fx.Interpreter):
    """Keeps the last value that each block computes."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[str, NDArray[np.float32]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        block = _block(n)
        if isinstance(value, Tensor) and value.dtype == torch.float32 and n.op == "call_function" and block:
            self.found[block] = value.numpy().copy()
        return value


def _block(node: fx.Node) -> str:
    """Return the block that a node was traced from, or an empty string outside of blocks."""
    stack = node.meta.get("nn_module_stack")
    return block_path(next(reversed(stack.values()))[0]) if stack else ""
