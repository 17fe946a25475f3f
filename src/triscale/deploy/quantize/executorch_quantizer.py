"""int8 quantization for ExecuTorch's XNNPACK backend by torchao.

Lowering a quantized program takes minutes, and so does calibration. So the model is calibrated once, whichever blocks
stay in float, and computed in torch until the blocks are chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from triscale.deploy.engines.executorch import MAX_BATCH, save
from triscale.deploy.engines.program import program_of
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize.noise import Signals
from triscale.network.tree import block_path
from triscale.optional_import import load

_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
_STEPS = "torchao.quantization.pt2e.quantize_pt2e"
_WITH_BIAS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
"""Operations whose third argument is a bias."""


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
        self._float: fx.GraphModule = program_of(subject.model, subject.input_shape, MAX_BATCH).module()
        self._last: Any = self._float
        weighted = (name.rpartition(".")[0] for name, value in subject.model.named_parameters() if value.ndim > 1)
        self.blocks: Sequence[str] = tuple(dict.fromkeys(map(block_path, weighted)))

    def quantize(self, float_blocks: Collection[str]) -> None:
        """Quantize the model in memory; some blocks stay float."""
        calibrated = self._calibrated
        with converting("torchao cannot quantize the model"):
            prepared = self._prepared(float_blocks)
            observers = _observers(prepared)
            if observers.keys() <= calibrated.keys():
                for name, targets in observers.items():
                    for target in targets:
                        setattr(prepared, target, calibrated[name])
            else:
                self._observe(prepared)
            self._last = self._steps.convert_pt2e(prepared)
            _round_biases(self._last)

    def emulate(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of images ``[N, 3, S, S]`` by the model as last quantized, computed in torch."""
        with torch.no_grad(), quiet_process():
            parts = [self._last(part).numpy() for part in torch.split(torch.from_numpy(images), MAX_BATCH)]
        return np.concatenate(parts)

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""
        self.quantize(float_blocks)
        save(program_of(self._last, self._subject.input_shape, MAX_BATCH), self._subject, file)

    @cached_property
    def _calibrated(self) -> dict[str, Any]:
        """The calibrated observer of each value of the model: a range does not depend on which blocks stay in float."""
        with converting("torchao cannot quantize the model"):
            prepared = self._prepared(())
            self._observe(prepared)
        return {name: prepared.get_submodule(targets[0]) for name, targets in _observers(prepared).items()}

    def _prepared(self, float_blocks: Collection[str]) -> fx.GraphModule:
        """Return a graph with observers of the values to quantize."""
        quantizer = self._quantizers.XNNPACKQuantizer()
        quantizer.set_global(self._quantizers.get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_filter_function(lambda node: _block(node) not in float_blocks)
        # A copy, since preparation changes the graph in place.
        prepared: fx.GraphModule = self._steps.prepare_pt2e(deepcopy(self._float), quantizer)
        return prepared

    def _observe(self, prepared: fx.GraphModule) -> None:
        with torch.no_grad():
            for part in torch.split(self._calibration, MAX_BATCH):
                prepared(part)

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, 3, S, S]``: in float, and as last written."""
        return self._outputs(self._float, images), self._outputs(self._last, images)

    def _outputs(self, graph: fx.GraphModule, images: NDArray[np.float32]) -> Signals:
        found: dict[str, list[NDArray[np.float32]]] = {}
        with torch.no_grad(), quiet_process():
            for part in torch.split(torch.from_numpy(images), MAX_BATCH):
                recorder = _Recorder(graph)
                recorder.run(part)
                for block, value in recorder.found.items():
                    found.setdefault(block, []).append(value)
        return {block: np.concatenate(found[block]) for block in self.blocks if block in found}


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


def _observers(prepared: fx.GraphModule) -> dict[str, list[str]]:
    """Return the names of the observers of each observed value, by the name of its node."""
    observers: dict[str, list[str]] = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("activation_post_process"):
            observers.setdefault(node.args[0].name, []).append(str(node.target))
    return observers


def _round_biases(graph: fx.GraphModule) -> None:
    """Round biases in place to what XNNPACK computes with: 32-bit integers in steps of input times weight.

    A program then has the same integers as torch has here: without it, a result in a thousand of a convolution falls
    on the other side of a half, and all that follows differs in turn.
    """
    for node in graph.graph.nodes:
        if node.target not in _WITH_BIAS or len(node.args) < 3 or node.args[2] is None:
            continue
        values, weight, bias = node.args[:3]
        if _is_dequantized(values) and _is_dequantized(weight):
            input_step, weight_steps = (_constant(graph, one.args[1]) for one in (values, weight))
            steps = input_step * torch.as_tensor(weight_steps, dtype=torch.float64)
            exact = _constant(graph, bias)
            with torch.no_grad():
                exact.copy_(torch.round(exact / steps) * steps)


def _is_dequantized(node: fx.Node) -> bool:
    return "dequantize" in str(node.target)


def _constant(graph: fx.GraphModule, value: Any) -> Any:
    """Return a tensor that a node of a graph fetches, or a number itself."""
    if not isinstance(value, fx.Node):
        return value
    found: Any = graph
    for name in str(value.target).split("."):
        found = getattr(found, name)
    return found


def _block(node: fx.Node) -> str:
    """Return the block that a node was traced from, or an empty string outside of blocks."""
    stack = node.meta.get("nn_module_stack")
    return block_path(next(reversed(stack.values()))[0]) if stack else ""
