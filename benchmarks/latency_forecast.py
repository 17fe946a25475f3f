"""Measure how well a device profile predicts the latency of unseen networks, in ONNX Runtime on one core.

    triscale profile --out profile.json
    python benchmarks/latency_forecast.py profile.json

Thirty networks: members of all families scaled along the paper's law to sizes that are not in the profile, some of
baselines that are not in it. Each is timed interleaved with the profile's reference network, by thread time (as in the
profile), and then by wall-clock time, as triscale measure does.
"""

import os
import statistics
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from triscale.deploy.graph import INPUT, timed_graph
from triscale.jobs.profile.device_profile import EngineTimer
from triscale.jobs.profile.probes import Probe, all_probes, probe_of, scaled
from triscale.measurement.device import machine
from triscale.measurement.latency import measure_latency, pinned_to_cores
from triscale.network.cost import count_network
from triscale.network.latency import DeviceProfile, predict

BASELINES = (
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_lite0",
    "efficientnet_lite2",
    "mobilenet_v1",
    "mobilenet_v2",
    "mnasnet_a1",
    "mnasnet_b1",
    "resnet18",
    "resnet50",
)
PHIS = (-4.1, -1.9, -0.7)
TOGETHER = 6
RESULT = "benchmarks/results/latency_forecast.txt"
COMMAND = f"triscale profile --out profile.json && python benchmarks/latency_forecast.py profile.json > {RESULT}"


def main() -> None:
    """Time the networks, compare with the predictions, and print."""
    profile = DeviceProfile.load(Path(sys.argv[1]))
    predictor = profile.predictor
    assert predictor is not None
    profiled = {probe.name for probe in all_probes()}
    networks = [scaled(name, phi) for name in BASELINES for phi in PHIS]
    assert not profiled & {network.name for network in networks}
    usual_reference = statistics.median(timing.reference_ms for timing in profile.timings)
    timer = EngineTimer("onnxruntime", 1)
    probes = [probe_of(network, "held out") for network in networks]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"# {COMMAND}\n")
    print(
        f"{machine().processor}, {machine().cores} cores, load {load}; "
        f"ONNX Runtime {onnxruntime.__version__}, one thread"
    )
    print(f"{predictor}\n")
    print(f"{'network':<30} px   MACs M  forecast ms  thread ms  off by   wall ms  off by")
    thread_errors, wall_errors = [], []
    for start in range(0, len(probes), TOGETHER):
        group = slice(start, start + TOGETHER)
        for network, probe, (network_ms, reference_ms) in zip(
            networks[group], probes[group], timer(probes[group]), strict=True
        ):
            predicted, thread, wall = (
                predict(predictor, network),
                network_ms / reference_ms * usual_reference,
                wall_ms(probe),
            )
            thread_errors.append(predicted / thread - 1)
            wall_errors.append(predicted / wall - 1)
            print(
                f"{network.name:<30} {network.resolution:<4} {count_network(network).macs / 1e6:6.0f} "
                f"{predicted:12.2f} "
                f"{thread:10.2f} {thread_errors[-1]:+7.1%} {wall:9.2f} {wall_errors[-1]:+7.1%}",
                flush=True,
            )
    for name, errors in (("clock of the thread", thread_errors), ("clock on the wall", wall_errors)):
        sizes = np.abs(errors)
        print(
            f"{name}: median error {np.median(sizes):.1%}, 90th percentile {np.percentile(sizes, 90):.1%}, "
            f"largest {sizes.max():.1%}, median of the signed errors {np.median(errors):+.1%}"
        )


def wall_ms(probe: Probe) -> float:
    """Return the median wall-clock latency in milliseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = timed_graph(probe.node, probe.shape).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    side = probe.shape.side
    images = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    with pinned_to_cores(1) as cores:
        return measure_latency(
            lambda: session.run(None, {INPUT: images}),
            engine="ONNX Runtime",
            batch=1,
            threads=1,
            input_shape=(3, side, side),
            warmup_seconds=0.2,
            sample_seconds=1.0,
            cores=cores,
        ).median_ms


if __name__ == "__main__":
    main()
