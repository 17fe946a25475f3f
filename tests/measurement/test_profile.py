"""Device profiles: features, fit, files and resuming; nothing is timed."""

import json
import random
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from triscale.deploy.engines.onnx_runtime import traced
from triscale.deploy.graph import INPUT, SharedWeights, timed_graph
from triscale.errors import Interrupted, JobError, RecordError, UserError
from triscale.families import get
from triscale.jobs.profile.device_profile import make_profile
from triscale.jobs.profile.other_device import export_plan, import_times
from triscale.jobs.profile.probes import BASELINES, all_probes, scaled
from triscale.measurement.profile import fit_predictor, measurement_noise
from triscale.measurement.runner import TOGETHER, time_with_reference
from triscale.network.cost import count_network
from triscale.network.latency import (
    NAMES,
    DeviceProfile,
    Timing,
    figures_of,
    load_predictor,
    predict,
    predict_figures,
)
from triscale.network.lower import lower
from triscale.network.tree import Shape
from triscale.nn.build import build_part
from triscale.training.context import ExecutionContext

PROBES = all_probes()
COUNTED = ("stem.macs", "pointwise.macs", "dense.macs", "depthwise3.macs", "depthwise.macs")


def made_up(figures):
    """Return the latency on a synthetic device with one coefficient per feature."""
    rng = random.Random(1)
    prices = {name: rng.uniform(0.005, 0.05) for name in NAMES}
    return sum(prices[name] * value for name, value in figures.items()) + 1e-6


def fake_timer(result):
    def timer(probes):
        result.extend(probe.name for probe in probes)
        return [(made_up(probe.figures), 3.0) for probe in probes]

    return timer


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    file = tmp_path_factory.mktemp("profile") / "profile.json"
    return file, make_profile(file, "onnxruntime", 1, ExecutionContext(), timer=fake_timer([]))


@pytest.mark.parametrize("name", [*BASELINES, "efficientnet_b4", "resnet101"])
def test_features_sum_to_exact_macs(name):
    network = get(name)
    figures = figures_of(network)
    macs = sum(figures.get(key, 0) for key in COUNTED) + figures["linear.weights"] + figures.get("vector.weights", 0)
    assert round(macs * 1e6) == count_network(network).macs


def test_features_of_small_network_match_hand_count():
    figures = figures_of(get("mobilenet_v1"))
    assert figures["run.count"] == figures["linear.count"] == figures["mean.count"] == 1
    assert figures["depthwise3.count"] == figures["pointwise.count"] == 13
    assert figures.get("relu.count", 0) + figures.get("relu6.count", 0) == 27
    assert figures["stem.macs"] * 1e6 == 112 * 112 * 32 * 27
    assert figures["depthwise3.macs"] * 1e6 == 9 * sum(
        side * side * width
        for side, width in [(112, 32), (56, 64), (56, 128), (28, 128), (28, 256), (14, 256)]
        + [(14, 512)] * 5
        + [(7, 512), (7, 1024)]
    )
    assert figures["linear.weights"] * 1e6 == 1024 * 1000


def test_fit_recovers_synthetic_device(profile):
    _, found = profile
    assert found.predictor.error_90 < 0.01
    for name in BASELINES:
        network = scaled(name, -0.9)
        assert predict(found.predictor, network) == pytest.approx(made_up(figures_of(network)), rel=0.02)


def test_fit_is_robust_to_outliers(profile):
    _, found = profile
    rng = random.Random(2)
    wild = tuple(
        timing.model_copy(update={"milliseconds": timing.milliseconds * rng.uniform(2, 5)})
        if timing.role == "part" and rng.random() < 0.05
        else timing
        for timing in found.timings
    )
    assert fit_predictor(found.model_copy(update={"timings": wild})).error_90 < 0.05


def test_fit_is_robust_to_changing_device_speed(profile):
    _, found = profile
    rng = random.Random(3)
    slowed = []
    for timing in found.timings:
        slower = rng.uniform(1, 2)
        update = {"milliseconds": timing.milliseconds * slower, "reference_ms": timing.reference_ms * slower}
        slowed.append(timing.model_copy(update=update))
    assert fit_predictor(found.model_copy(update={"timings": tuple(slowed)})).error_90 < 0.01


@pytest.mark.parametrize("name", BASELINES)
def test_larger_family_member_is_never_predicted_faster(profile, name):
    _, found = profile
    times = [predict(found.predictor, scaled(name, phi / 2)) for phi in range(-8, 5)]
    assert times == sorted(times)


def test_profile_round_trips(profile):
    file, found = profile
    assert DeviceProfile.load(file) == found
    assert load_predictor(file) == found.predictor


def test_resumed_profile_does_not_repeat_timings(tmp_path):
    result, file, probes = [], tmp_path / "profile.json", PROBES[: 2 * TOGETHER + 5]
    with pytest.raises(Interrupted, match="to resume"):
        make_profile(
            file,
            "torch",
            1,
            ExecutionContext(should_stop=lambda: len(result) > 0),
            probes=probes,
            timer=fake_timer(result),
        )
    assert len(result) == TOGETHER
    with pytest.raises(RecordError, match="not finished"):
        load_predictor(file)
    with pytest.raises(JobError, match="too few"):  # There are no whole networks among these.
        make_profile(file, "torch", 1, ExecutionContext(), probes=probes, timer=fake_timer(result))
    assert Counter(result) == Counter(probe.name for probe in probes)
    with pytest.raises(UserError, match="threads 1, not 2"):
        make_profile(file, "torch", 2, ExecutionContext(), probes=probes, timer=fake_timer(result))
    with pytest.raises(UserError, match="engine torch, not onnxruntime"):
        make_profile(file, "onnxruntime", 1, ExecutionContext(), probes=probes, timer=fake_timer(result))


def test_probes_have_unique_names_and_held_out_networks_are_not_fitted():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    figures = {role: [probe.figures for probe in PROBES if probe.role == role] for role in ("whole", "held out")}
    assert len(figures["held out"]) >= 10
    assert not any(held in figures["whole"] for held in figures["held out"])


def test_ratios_are_computed_within_rounds():
    clock = iter(range(10**9))
    (own, reference), (other, _) = time_with_reference(
        [(lambda: next(clock), 0.0), (lambda: [next(clock) for _ in range(3)], 0.0)],
        lambda: next(clock),
        lambda: next(clock) / 1e3,
        rounds=2,
    )
    assert (own, reference, other) == pytest.approx((2, 2, 4))


@pytest.mark.parametrize("name", ["efficientnet_b0@32", "resnet18@32"])
@pytest.mark.stress
def test_timed_graph_has_operations_of_torch_export(tmp_path, name):
    network = get(name)
    onnx.save(traced(build_part(lower(network)).eval(), network.input_shape), tmp_path / "exported.onnx")
    counts = []
    for content in (
        (tmp_path / "exported.onnx").read_bytes(),
        timed_graph(lower(network), Shape(3, network.resolution, network.resolution)).SerializeToString(),
    ):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(tmp_path / "optimized.onnx")
        # The same mean by two names.
        kinds = {"ReduceMean": "GlobalAveragePool"}
        counts.append(Counter(kinds.get(node.op_type, node.op_type) for node in optimized.graph.node))
        del counts[-1]["Flatten"]
    moved = [count.pop("ReorderInput", 0) for count in counts]
    assert moved[1] <= moved[0]  # ours has to be laid out again less often
    assert counts[0] == counts[1]


def test_part_graphs_match_torch_modules():
    for probe in random.Random(0).sample([probe for probe in PROBES if probe.role == "part"], 20):
        image = torch.zeros(1, *probe.shape)
        session = onnxruntime.InferenceSession(
            timed_graph(probe.node, probe.shape).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (found,) = session.run(None, {INPUT: image.numpy()})
        with torch.inference_mode():
            expected = build_part(probe.node).eval()(image)
        assert found.shape == tuple(expected.shape)
        assert found.shape[1] == probe.node.out.channels


def test_missing_features_have_zero_latency():
    timing = Timing(name="x", role="part", figures={"run.count": 1.0}, milliseconds=1.0, reference_ms=1.0)
    predictor = fit_predictor(
        DeviceProfile(
            engine="torch",
            threads=1,
            processor="x",
            timings=(
                timing,
                timing.model_copy(update={"role": "whole"}),
                timing.model_copy(update={"role": "held out"}),
            ),
        )
    )
    assert predict_figures(predictor, {"run.count": 2.0, "add.count": 5.0}) == pytest.approx(2.0)


@pytest.mark.process
def test_exported_plan_is_imported_as_profile(tmp_path):
    by_role = {role: [probe for probe in PROBES if probe.role == role][:1] for role in ("part", "whole", "held out")}
    probes = [probe for chosen in by_role.values() for probe in chosen]
    folder = tmp_path / "plan"
    assert export_plan(folder, 1, probes) == 3
    with pytest.raises(UserError, match="not empty"):
        export_plan(folder, 1, probes)
    with pytest.raises(RecordError, match=re.escape("times.json")):
        import_times(folder, tmp_path / "profile.json", probes)
    # The copied runner, in a Python without Triscale on its path.
    code = (
        f"import runpy, sys; sys.path = [p for p in sys.path if 'triscale' not in p]; sys.argv = ['{folder}/runner.py']"
    )
    code += f"; runpy.run_path('{folder}/runner.py', run_name='__main__'); assert 'triscale' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    made = import_times(folder, tmp_path / "profile.json", probes)
    assert [timing.name for timing in made.timings] == [probe.name for probe in probes]
    assert load_predictor(tmp_path / "profile.json") == made.predictor
    with pytest.raises(RecordError, match="another version"):
        import_times(folder, tmp_path / "profile.json", probes[:2])
    times = json.loads((folder / "times.json").read_text())
    times["times"].popitem()
    (folder / "times.json").write_text(json.dumps(times))
    with pytest.raises(RecordError, match="lacks the times of 1 of 3"):
        import_times(folder, tmp_path / "profile.json", probes)


def test_shared_weights_keep_output_shape(tmp_path):
    shared = SharedWeights()
    probe = next(probe for probe in PROBES if probe.role == "whole" and probe.name.startswith("efficientnet_b0"))
    (tmp_path / "graph.onnx").write_bytes(timed_graph(probe.node, probe.shape, shared).SerializeToString())
    shared.save(tmp_path)
    onnx.checker.check_model(str(tmp_path / "graph.onnx"), full_check=True)
    images = np.random.default_rng(0).standard_normal((1, *probe.shape), dtype=np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {INPUT: images})
    assert found.shape == (1, 1000)
    assert np.isfinite(found).all()
    assert 1e-10 < np.abs(found).max() < 1e10


def test_noisy_device_is_reported(profile):
    _, found = profile
    assert measurement_noise(found) == 0
    slowed = [
        timing.model_copy(update={"reference_ms": 3.0 * (1 + number % 2)})
        for number, timing in enumerate(found.timings)
    ]
    assert measurement_noise(found.model_copy(update={"timings": tuple(slowed)})) == pytest.approx(1)
