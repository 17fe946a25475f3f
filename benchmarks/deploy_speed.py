"""Compare the candidates of triscale deploy with the same engines called directly, for one image on one core.

    python benchmarks/deploy_speed.py efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4

Called directly: torch (eager, channels last), torch compiled, and ONNX Runtime and OpenVINO with a file of torch's
exporter. ``--quick`` skips what takes minutes to prepare: torch compiled, ExecuTorch and OpenVINO's int8. Weights are
random, which does not affect latency. int8 is calibrated with noise; its accuracy is in
docs/explanation/deployment.md. All are timed interleaved in one run. A ratio is the latency of the fastest direct call
divided by that of Triscale's file, with a 95% bootstrap interval over rounds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import torch

from triscale.deploy.contract import Contract
from triscale.deploy.engines import ENGINES
from triscale.deploy.engines.onnx_runtime import traced
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize import QUANTIZERS
from triscale.families import get
from triscale.jobs.deploy.quantize import slow_blocks
from triscale.measurement.device import machine
from triscale.measurement.latency import pinned_to_cores, torch_threads
from triscale.measurement.versus import ratio_interval, time_alternately
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.nn.build import build

OURS = ("onnxruntime", "openvino", "executorch")
CALIBRATION = 8
ROUNDS = 21
ROUND_SECONDS = 0.4


def compiled_by_torch(network: Network, model: torch.nn.Module) -> Callable[[], object]:
    """Return a compiled model after one call, since the compiler starts processes that need all cores."""
    model = build_like(network, model).to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(noise(network)).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(model, dynamic=False)  # With dynamic shapes, compiling B1 takes more than ten minutes.
    compiled(tensor)
    return lambda: compiled(tensor)


def direct(network: Network, model: torch.nn.Module, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the engines called without Triscale."""
    image = noise(network)
    tensor = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)
    file = folder / "direct.onnx"
    onnx.save(traced(build_like(network, model), network.input_shape), file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(file)), "CPU", settings).create_infer_request()
    return {
        "torch": lambda: model(tensor),
        "ONNX Runtime": lambda: session.run(None, {"images": image}),
        "OpenVINO": lambda: request.infer({0: image}),
    }


def triscale(network: Network, model: torch.nn.Module, folder: Path, *, quick: bool) -> dict[str, Callable[[], object]]:
    """Return the candidate files of triscale deploy."""
    image = noise(network)
    contract = Contract(network=network.name, preprocessing=Preprocessing.usual(network.input_shape), classes=())
    subject = Exportable(build_like(network, model), contract, network)
    calls: dict[str, Callable[[], object]] = {}
    for name in OURS[:2] if quick else OURS:
        engine = ENGINES[name]
        file = folder / f"ours{engine.suffix}"
        engine.write(subject, file)
        calls[engine.title] = called(engine.open(file, 1), image)
    for name in OURS[:1] if quick else OURS[:2]:
        engine = ENGINES[name]
        file = folder / f"ours.int8{engine.suffix}"
        tool = QUANTIZERS[name](subject, noise(network, CALIBRATION))
        tool.write(slow_blocks(tool, engine, network.input_shape), file)
        calls[f"{engine.title} int8"] = called(engine.open(file, 1), image)
    return calls


def called(session: Callable[[np.ndarray], object], image: np.ndarray) -> Callable[[], object]:
    return lambda: session(image)


def build_like(network: Network, model: torch.nn.Module) -> torch.nn.Module:
    """Return another module with the same weights, in the default memory format."""
    other = build(network).eval()
    other.load_state_dict(model.state_dict())
    return other


def noise(network: Network, number: int = 1) -> np.ndarray:
    shape = (number, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def main(names: list[str], *, quick: bool) -> None:
    print(f"{machine().processor}, one core, one image; milliseconds are medians, ratios with 95% intervals\n")
    for name in names:
        network = get(name)
        torch.manual_seed(0)
        model = build(network).eval()
        with tempfile.TemporaryDirectory() as folder, torch_threads(1), torch.inference_mode(), ExitStack() as held:
            theirs = {} if quick else {"torch compiled": compiled_by_torch(network, model)}
            held.enter_context(pinned_to_cores(1))
            theirs |= direct(network, model, Path(folder))
            ours = triscale(network, model, Path(folder), quick=quick)
            times, _ = time_alternately([*theirs.values(), *ours.values()], ROUNDS, ROUND_SECONDS)
        medians = np.median(times, axis=0)
        titles = [*(f"{title}, directly" for title in theirs), *(f"{title}, Triscale" for title in ours)]
        print(f"{name}, {network.resolution} px")
        for title, median in zip(titles, medians, strict=True):
            print(f"  {title:<32} {median:8.2f} ms")
        fastest = int(np.argmin(medians[: len(theirs)]))
        float_files = [number for number, title in enumerate(titles) if "Triscale" in title and "int8" not in title]
        int8_files = [number for number, title in enumerate(titles) if "int8" in title]
        for precision, indices in (("float32", float_files), ("int8", int8_files)):
            best = min(indices, key=lambda number: medians[number])
            ratio, low, high = ratio_interval(times[:, fastest], times[:, best])
            print(
                f"  {precision}: {titles[best]} is {ratio:.2f} x ({low:.2f} to {high:.2f}) as fast as {titles[fastest]}"
            )
        best = min(int8_files, key=lambda number: medians[number])
        best_float = min(float_files, key=lambda number: medians[number])
        ratio, low, high = ratio_interval(times[:, best_float], times[:, best])
        print(f"  int8 against float32 of Triscale: {ratio:.2f} x ({low:.2f} to {high:.2f})\n", flush=True)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--quick"]
    main(words or ["efficientnet_b0"], quick="--quick" in sys.argv)
