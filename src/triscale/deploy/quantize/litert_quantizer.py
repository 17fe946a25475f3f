"""int8 quantization for LiteRT by its own quantizer (AI Edge Quantizer).

Operators of a LiteRT file have no names; its tensors carry the modules that computed them, as torch traced them:
``Classifier/Chained_stem/torch.nn.modules.conv.Conv2d_conv;;...``. By these, operators are assigned to blocks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import fx

from triscale.deploy.engines.litert import FLOAT32_TENSOR, converted, leave_out, load_converter, real, rounded, save
from triscale.deploy.engines.program import program_of
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.exportable import Exportable
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
from triscale.optional_import import load

FAILED = "LiteRT's quantizer cannot quantize the model"
_SIGNATURE = "serving_default"


class _Operator(NamedTuple):
    """The names of an operator's outputs, and the block that it belongs to; empty outside of blocks."""

    outputs: tuple[str, ...]
    block: str


class LiteRtQuantizer:
    """Quantizes to full integers: symmetric per-channel weights, asymmetric activations, int8 input and output.

    Raises:
        ExportError: LiteRT's converter is not installed, or cannot convert the model.
    """

    is_quick = True
    emulate = None

    def __init__(self, subject: Exportable, calibration: NDArray[np.float32]) -> None:
        self._contract = subject.contract
        self._calibration = calibration
        self._quantizer = load_converter("ai_edge_quantizer.quantizer")
        self._recipe = load_converter("ai_edge_quantizer.recipe")
        self._float = converted(subject)
        self._last = self._float
        weighted = (name.rpartition(".")[0] for name, value in subject.model.named_parameters() if value.ndim > 1)
        self.blocks: Sequence[str] = tuple(dict.fromkeys(map(block_path, weighted)))
        self._operators = _operators(self._float, _scopes(subject), self.blocks)

    def quantize(self, float_blocks: Collection[str]) -> None:
        """Quantize the model in memory; some blocks stay float."""
        with quiet_process(), converting(FAILED):
            work = self._work(float_blocks)
            self._last = bytes(work.quantize(self._ranges, enable_progress_report=False).quantized_model)

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""
        self.quantize(float_blocks)
        save(self._last, self._contract, file)

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, C, H, W]``: in float, and as last written."""
        return self._outputs(self._float, images), self._outputs(self._last, images)

    @cached_property
    def _ranges(self) -> Any:
        """Ranges of all values of the float model, computed in the way that is best for the logits.

        They do not depend on which blocks stay in float.
        """
        images = self._calibration[:COMPARED]
        with quiet_process(), converting(FAILED):
            # One image shows what has a range: also weights, which keep theirs.
            found = self._work(()).calibrate({_SIGNATURE: [{_input_name(self._float): images[:1]}]})
        candidates = ({**found, **_with_bounds(found, ranges)} for ranges in ways_of_ranges(self._activations).values())
        return best_by_logits(candidates, lambda ranges: self._logits(ranges, images), _outputs_of(self._float, images))

    def _activations(self) -> Iterator[Activations]:
        interpreter = _interpreter(self._float)
        source, named = interpreter.get_input_details()[0], _computed(self._float)
        for image in one_by_one(self._calibration):
            interpreter.set_tensor(source["index"], image)
            interpreter.invoke()
            yield {name: interpreter.get_tensor(index) for index, name in named.items()}

    def _logits(self, ranges: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with quiet_process(), converting(FAILED):
            return _outputs_of(
                bytes(self._work(()).quantize(ranges, enable_progress_report=False).quantized_model), images
            )

    def _work(self, float_blocks: Collection[str]) -> Any:
        """Return LiteRT's quantizer with the operators of some blocks left out."""
        work = self._quantizer.Quantizer(bytearray(self._float))
        work.load_quantization_recipe(self._recipe.static_wi8_ai8())
        leave_out(work, (one.outputs for one in self._operators if one.block in float_blocks))
        return work

    def _outputs(self, content: bytes, images: NDArray[np.float32]) -> Signals:
        interpreter = _interpreter(content)
        source = interpreter.get_input_details()[0]
        named = {details["name"]: details for details in interpreter.get_tensor_details()}
        ends = {one.block: named[one.outputs[-1]] for one in self._operators if one.block and one.outputs[-1] in named}
        found: dict[str, list[NDArray[np.float32]]] = {block: [] for block in self.blocks if block in ends}
        for image in images:
            interpreter.set_tensor(source["index"], rounded(image[None], source))
            interpreter.invoke()
            for block, values in found.items():
                values.append(real(interpreter.get_tensor(ends[block]["index"]), ends[block]))
        return {block: np.concatenate(values) for block, values in found.items()}


def _interpreter(content: bytes) -> Any:
    """Return an interpreter of a file that keeps all values it computes."""
    engine = load("ai_edge_litert.interpreter", "LiteRT", "litert")
    with quiet_process():
        interpreter = engine.Interpreter(
            model_content=content,
            # Delegates do not keep what they compute in between.
            experimental_op_resolver_type=engine.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    return interpreter


def _outputs_of(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits ``[N, classes]`` of images ``[N, C, H, W]``."""
    interpreter = _interpreter(content)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for image in one_by_one(images):
        interpreter.set_tensor(source["index"], rounded(image, source))
        interpreter.invoke()
        found.append(real(interpreter.get_tensor(target["index"]), target))
    return np.concatenate(found)


def _computed(content: bytes) -> dict[int, str]:
    """Return the names of the float values that a file computes, and of its input, by their numbers."""
    model = _model(content)
    graph = model.Subgraphs(0)
    tensors = {index: graph.Tensors(index) for index in range(graph.TensorsLength())}
    return {
        index: tensor.Name().decode()
        for index, tensor in tensors.items()
        if tensor.Type() == FLOAT32_TENSOR and model.Buffers(tensor.Buffer()).DataLength() == 0
    }


def _with_bounds(found: Mapping[str, Any], ranges: Mapping[str, ValueRange]) -> dict[str, Any]:
    """Return ranges in the form in which LiteRT's quantizer has found some."""
    return {
        name: {
            **found[name],
            "min": np.full_like(found[name]["min"], low),
            "max": np.full_like(found[name]["max"], high),
        }
        for name, (low, high) in ranges.items()
        if name in found
    }


def _model(content: bytes) -> Any:
    return load("ai_edge_litert.schema_py_generated", "LiteRT", "litert").Model.GetRootAsModel(content, 0)


def _input_name(content: bytes) -> str:
    """Return the name of the input in the signature of a file."""
    return str(_model(content).SignatureDefs(0).Inputs(0).Name().decode())


def _operators(content: bytes, scopes: Mapping[str, str], blocks: Sequence[str]) -> list[_Operator]:
    """Return the operators of a file in the order of computation.

    The output of the file is named as such and not by its module: its operator belongs to the last block.
    """
    graph = _model(content).Subgraphs(0)
    names = [graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())]
    last = graph.Outputs(0)
    found = []
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        outputs = [operator.Outputs(index) for index in range(operator.OutputsLength())]
        block = blocks[-1] if last in outputs else _block_of(names[outputs[-1]], scopes)
        found.append(_Operator(tuple(names[index] for index in outputs), block if block in blocks else ""))
    return found


def _block_of(name: str, scopes: Mapping[str, str]) -> str:
    """Return the block of a tensor by the first module in its name; empty if it is in none."""
    scope = re.split(r";+", name)[0]
    while scope and scope not in scopes:
        scope = scope.rpartition("/")[0]
    return scopes.get(scope, "")


def _scopes(subject: Exportable) -> dict[str, str]:
    """Return the block of each module by the name that LiteRT's converter gives it, from what torch traces."""
    graph: fx.Graph = program_of(subject.model, subject.input_shape).graph
    found: dict[str, str] = {}
    for node in graph.nodes:
        parts: list[str] = []
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            title = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            parts.append(f"{title}_{path.rpartition('.')[2]}" if path else title)
            if path:
                found["/".join(parts)] = block_path(path)
    return found
