"""Finish an ONNX graph for other programs: sorted nodes, low versions, metadata in plain words, and a full check."""

from __future__ import annotations

import heapq
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import checker, helper, numpy_helper, shape_inference

from triscale.deploy.contract import CONTRACT_KEY, Contract
from triscale.errors import ExportError
from triscale.version import __version__

TASK = "image-classification"


def write_onnx(proto: onnx.ModelProto, contract: Contract, file: Path) -> None:
    """Write a graph with its contract; a graph that ONNX's checker refuses is not written.

    Args:
        proto: The graph; it is not changed.
        contract: What a user of the file needs to know.
        file: The file.

    Raises:
        ExportError: The graph is not valid ONNX.
    """
    finished = onnx.ModelProto()
    finished.CopyFrom(proto)
    sort_nodes(finished.graph)
    finished.ir_version = helper.find_min_ir_version_for(list(finished.opset_import), ignore_unknown=True)
    finished.producer_name, finished.producer_version = "triscale", __version__
    finished.doc_string = describe_use(contract)
    helper.set_model_props(finished, {CONTRACT_KEY: contract.to_json(), **plain_metadata(contract)})
    try:
        checker.check_model(finished, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ExportError(f"the graph for {file.name} is not valid ONNX: {str(error).splitlines()[0]}") from error
    onnx.save(finished, file)


def with_half_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose weights are stored in float16, each converted to float32 by a node when the file is opened.

    Vectors, such as biases and scales, stay in float32, and so do weights that float16 cannot hold.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    largest = np.finfo(np.float16).max
    for stored in graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.ndim < 2 or np.abs(values).max(initial=0) > largest:
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/float16"))
        graph.node.append(helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT))
    return result


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort the nodes of a graph so that each stands after those it reads; otherwise their order stays.

    Example:
        >>> nodes = [helper.make_node("Relu", ["b"], ["c"]), helper.make_node("Neg", ["a"], ["b"])]
        >>> graph = helper.make_graph(nodes, "example", [], [])
        >>> sort_nodes(graph)
        >>> [node.op_type for node in graph.node]
        ['Neg', 'Relu']
    """
    nodes = list(graph.node)
    writer = {name: index for index, node in enumerate(nodes) for name in node.output}
    readers: dict[int, list[int]] = {}
    waiting = [0] * len(nodes)
    for index, node in enumerate(nodes):
        for source in {writer[name] for name in node.input if name in writer}:
            readers.setdefault(source, []).append(index)
            waiting[index] += 1
    ready = [index for index, number in enumerate(waiting) if number == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    if order != list(range(len(nodes))):
        sorted_nodes = [nodes[index] for index in order]
        del graph.node[:]
        graph.node.extend(sorted_nodes)


def plain_metadata(contract: Contract) -> dict[str, str]:
    """Return the contract as separate entries, each of them JSON or a word, for programs that do not know Triscale.

    Example:
        >>> from triscale.network.contract import Preprocessing
        >>> contract = Contract(network="net", preprocessing=Preprocessing(resolution=64), classes=("cat", "dog"))
        >>> found = plain_metadata(contract)
        >>> found["names"], found["input_size"], found["crop"], found["activation"]
        ('["cat", "dog"]', '[3, 64, 64]', '1.0', 'softmax')
    """
    entries = contract_entries(contract).items()
    return {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in entries}


def contract_entries(contract: Contract) -> dict[str, object]:
    """Return the contract as separate entries of plain values; what does not apply is left out.

    Example:
        >>> from triscale.network.contract import Preprocessing
        >>> contract = Contract(network="net", preprocessing=Preprocessing(resolution=64), classes=("cat", "dog"))
        >>> found = contract_entries(contract)
        >>> found["names"], found["interpolation"], "temperature" in found
        (('cat', 'dog'), 'bicubic', False)
    """
    images, decision = contract.preprocessing, contract.decision
    entries: dict[str, object] = {
        "task": TASK,
        "interpolation": images.interpolation,
        "activation": decision.link,
        "names": contract.classes,
        "input_size": images.input_shape,
        "mean": images.mean,
        "std": images.std,
        "crop": images.crop,
    }
    if decision.thresholds is not None:
        entries["thresholds"] = decision.thresholds
    if (confidence := decision.confidence) is not None:
        entries["temperature"] = confidence.temperature
        if confidence.set_threshold is not None:
            entries |= {"coverage": confidence.coverage, "set_threshold": confidence.set_threshold}
        if confidence.unknown_threshold is not None:
            entries["unknown_threshold"] = confidence.unknown_threshold
    if images.bit_depth != 16:
        entries["bit_depth"] = images.bit_depth
    if contract.origins:
        entries["trained_from"] = [origin.weights for origin in contract.origins]
        entries["licenses"] = [origin.license_in_words for origin in contract.origins]
    return entries


def describe_use(contract: Contract) -> str:
    """Return how the file is used, in words."""
    images = contract.preprocessing
    channels, height, width = images.input_shape
    kinds = {1: "gray", 3: "RGB"}
    shape = f"{width} x {height}"
    temperature = contract.decision.temperature
    divided = "" if temperature == 1 else f", divided by the temperature {temperature:.6g},"
    answer = f"softmax over the logits{divided} gives probabilities"
    if contract.decision.link == "sigmoid":
        answer = f"the sigmoid of each logit{divided} gives the probability of its label"
    return (
        f"{contract.network}, {len(contract.classes)} classes. Apply the EXIF orientation; read the image as "
        f"{kinds.get(channels, f'{channels} channels')}; cut out the largest centered rectangle with the ratio "
        f"{shape}, with both sides multiplied by {images.crop:g}; resize it to {shape} pixels ({images.interpolation}, "
        "antialiased); divide by 255; subtract mean and divide by std of each channel; order as "
        f"[batch, {channels}, {height}, {width}]. {answer}."
    )
