"""int8 files stay within the accuracy bound, or are not written."""

import dataclasses
import itertools
import math
import time

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.test_export import alive
from sizes import NEWER_FAMILIES, stressed
from triscale.deploy.contract import Contract, read_contract
from triscale.deploy.engines import ENGINES, get_engine, open_file
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import logits_of_model
from triscale.deploy.quantize import QUANTIZERS, get_quantizer
from triscale.deploy.quantize.guard import FIRST_LOOK, LabeledImages, _attempt, accept_rounded, quantize
from triscale.deploy.quantize.judge import TopOne
from triscale.deploy.quantize.noise import added_noise, noise_of_blocks, signal_to_noise_ratio
from triscale.errors import QuantizationError, UserError
from triscale.families import get
from triscale.jobs.deploy.quantize import first_tied, slow_blocks
from triscale.network.contract import Preprocessing
from triscale.network.tree import block_path
from triscale.results.accuracy_gap import paired_gap
from triscale.results.deployment import Quantized

CLASSES = 4


def test_uniform_rounding_sqnr_matches_closed_form():
    signal = np.random.default_rng(0).uniform(-1, 1, 1_000_000).astype(np.float32)
    for bits in (4, 8):
        step = 2 / 2**bits
        rounded = (np.round(signal / step) * step).astype(np.float32)
        # Signal power 1/3, error power step^2 / 12: the rule of 6.02 dB per bit.
        assert signal_to_noise_ratio(signal, rounded) == pytest.approx(20 * bits * math.log10(2), abs=0.1)
    assert signal_to_noise_ratio(signal, signal) == 120
    assert signal_to_noise_ratio(np.zeros(4, np.float32), np.ones(4, np.float32)) == 0


@given(st.lists(st.floats(0, 120), min_size=1, max_size=20))
def test_added_noise_is_nonnegative_and_covers_total(ratios):
    named = {str(number): ratio for number, ratio in enumerate(ratios)}
    added = added_noise(named)
    assert list(added) == list(named)
    assert all(value >= 0 for value in added.values())
    assert sum(added.values()) >= 10 ** (-ratios[-1] / 10) * (1 - 1e-9)


class Formula:
    """A fake quantizer whose file lists the float blocks; each int8 block makes some predictions wrong."""

    is_quick = True
    emulate = None

    def __init__(self, wrongs):
        self.wrongs = wrongs
        self.blocks = [f"stages.0.blocks.{number}" for number in range(len(wrongs))]
        self.written = []

    def write(self, kept, file):
        self.written.append(frozenset(kept))
        file.write_text(" ".join(sorted(kept)))

    def signals(self, images):
        exact = {name: np.ones(4) for name in self.blocks}
        total = np.sqrt(np.cumsum(self.wrongs))
        rounded = {
            name: np.full(4, 1 + noise / 1000, np.float32) for name, noise in zip(self.blocks, total, strict=True)
        }
        return exact, rounded

    def open(self, file):
        return self.wrong_with(file.read_text().split())

    def wrong_with(self, kept):
        wrong = sum(number for name, number in zip(self.blocks, self.wrongs, strict=True) if name not in kept)
        return wrong_outputs(wrong)


class Emulated(Formula):
    """A fake quantizer whose files are written only once the blocks are chosen; ``extra`` more are wrong in a file."""

    is_quick = False

    def __init__(self, wrongs, extra=0):
        super().__init__(wrongs)
        self.extra, self.quantized = extra, []

    def quantize(self, kept):
        self.quantized.append(frozenset(kept))

    def emulate(self, images):
        return self.wrong_with(self.quantized[-1])(images)

    def open(self, file):
        kept = file.read_text().split()
        wrong = sum(number for name, number in zip(self.blocks, self.wrongs, strict=True) if name not in kept)
        return wrong_outputs(wrong + self.extra)


def wrong_outputs(wrong):
    """Return a function from numbers of images to their logits; of each 1000, some are wrong, spread evenly."""
    wrong = min(1000, wrong)

    def call(numbers):
        classes = (numbers * wrong) // 1000 != ((numbers + 1) * wrong) // 1000
        return np.eye(2, dtype=np.float32)[classes.astype(int)]

    return call


def labeled(split, wrong=None):
    """Return 1000 labeled images, which are their numbers; a given number of them is wrong in every file."""
    exact, labels = np.eye(2, dtype=np.float32)[[0] * 1000], np.zeros(1000, dtype=np.int64)
    batches = np.split(np.arange(1000), 20)

    def outputs(call):
        return map(call if wrong is None else wrong_outputs(wrong), batches)

    return LabeledImages(split, TopOne(exact, labels), outputs)


def guarded(wrongs, folder, bound, slow=(), test=None, remedies=("do this",), make=Formula):
    tool = make(wrongs)
    result = quantize(
        tool, tool.open, labeled("validation"), lambda: labeled("test", test),
        np.zeros((1, 3, 2, 2), np.float32), folder / "model.int8.x",
        engine="formula", calibration_images=100, slow=slow, bound=bound, remedies=remedies,
    )  # fmt: skip
    return tool, result


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=16), st.sampled_from([0.0, 0.5, 2.0]))
def test_fewest_blocks_stay_float_or_quantization_fails(tmp_path_factory, wrongs, bound):
    folder = tmp_path_factory.mktemp("guard")
    largest = sorted(wrongs, reverse=True)
    needed = next(n for n in itertools.count() if sum(largest[n:]) / 10 <= bound)
    if needed > max(1, len(wrongs) // 2):
        with pytest.raises(QuantizationError, match=r"Most sensitive blocks: stages\.0\.blocks\.\d+ \("):
            guarded(wrongs, folder, bound)
        assert list(folder.iterdir()) == []
        return
    tool, result = guarded(wrongs, folder, bound)
    kept = {block.name for block in result.blocks if block.kept_float}
    assert result.choice.lost_points <= bound
    assert sum(wrongs) / 10 <= bound or kept
    assert set((folder / "model.int8.x").read_text().split()) == kept
    # Noise is attributed to the block where it first appears; of two equal blocks either may stay in float.
    assert len(kept) <= needed + 1
    assert result.attempts == len(tool.written)
    assert 0 <= result.accuracy <= result.float_accuracy == 1


def test_blocks_without_int8_speedup_stay_float_and_are_marked(tmp_path):
    tool, result = guarded([9, 2, 3, 50], tmp_path, 1.0, slow=("stages.0.blocks.0", "stages.0.blocks.1"))
    assert all(kept >= {"stages.0.blocks.0", "stages.0.blocks.1"} for kept in tool.written)
    assert [(block.kept_float, block.for_speed) for block in result.blocks] == [
        (True, True), (True, True), (False, False), (True, False),
    ]  # fmt: skip
    assert result.lost_points == pytest.approx(0.3)


@given(st.integers(1, 500), st.integers(0, 10), st.sampled_from([0.0, 0.5, 2.0]))
def test_one_image_of_a_small_choice_is_always_allowed(images, wrong, bound):
    wrong = min(wrong, images)
    exact, labels = np.eye(2, dtype=np.float32)[[0] * images], np.zeros(images, dtype=np.int64)
    choice = LabeledImages("validation", TopOne(exact, labels), lambda call: iter([call(labels)]))
    outputs = np.eye(2, dtype=np.float32)[[1] * wrong + [0] * (images - wrong)]
    accepted = choice.judge.loss(outputs) <= choice.allowed(bound)
    assert accepted == (100 * wrong <= bound * images or (wrong == 1 and bound > 0))


def test_too_few_images_to_calibrate_with_are_rejected(tmp_path):
    tool = Formula([0])
    with pytest.raises(UserError, match="31 images are too few"):
        quantize(
            tool, tool.open, labeled("validation"), lambda: labeled("test"),
            np.zeros((1, 3, 2, 2), np.float32), tmp_path / "x", engine="x", calibration_images=31,
        )  # fmt: skip
    with pytest.raises(UserError, match="cannot quantize for Core ML"):
        get_quantizer(get_engine("coreml"))


@pytest.fixture(scope="module")
def subject(tiny):
    network = tiny.replace(classes=CLASSES)
    contract = Contract(network="tiny", preprocessing=Preprocessing(resolution=16), classes=tuple("abcd"))
    return Exportable(alive(network), contract, network)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((48, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("name", [*(name for name in QUANTIZERS if name != "executorch"), *stressed("executorch")])
def test_every_quantizer_keeps_selected_blocks_in_float(subject, images, tmp_path, name):
    needs = {"openvino": ("openvino", "nncf"), "executorch": ("executorch",), "litert": ("litert_torch",)}
    for needed in needs.get(name, ()):
        pytest.importorskip(needed)
    tool, file = QUANTIZERS[name](subject, images), tmp_path / f"model.int8{ENGINES[name].suffix}"
    assert tuple(tool.blocks) == ("stem", "stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1", "head")
    exact = logits_of_model(subject.model, images)
    if name == "executorch":  # its programs are slow to build, so one program covers all checks
        tool.write(("stages.1.blocks.0",), file)
    else:
        tool.write((), file)
    opened = open_file(file, 1)
    assert read_contract(opened.contract_text, file) == subject.contract
    all_int8 = signal_to_noise_ratio(exact, opened(images))
    assert 5 < all_int8 < 60
    ratios = noise_of_blocks(*tool.signals(images[:8]))
    assert list(ratios) == list(tool.blocks)
    assert all(5 < ratio < 70 for ratio in ratios.values())
    if name == "executorch":
        added = added_noise(ratios)
        assert added["stages.1.blocks.0"] < 0.1 * added["stages.0.blocks.0"]
        # What torch computes stands for the file while blocks are chosen.
        assert signal_to_noise_ratio(opened(images), tool.emulate(images)) > all_int8 + 10
        return
    kept = (
        40 if name == "litert" else 100
    )  # the input of an int8 file of LiteRT is int8, whichever blocks stay in float
    tool.write(tool.blocks[:4], file)
    assert noise_of_blocks(*tool.signals(images[:8]))["stages.1.blocks.1"] > max(kept, ratios["stages.1.blocks.1"])
    assert signal_to_noise_ratio(exact, open_file(file, 1)(images)) > all_int8
    tool.write(tool.blocks, file)
    assert signal_to_noise_ratio(exact, open_file(file, 1)(images)) > max(kept, all_int8)


@pytest.mark.stress
def test_executorch_computes_the_same_whichever_batch_is_first(tmp_path):
    pytest.importorskip("executorch")
    network = get("mobilenet_v4_conv_small")
    network = network.replace(classes=CLASSES, resolution=32, stages=network.stages[:1])
    contract = Contract(network="first", preprocessing=Preprocessing(resolution=32), classes=tuple("abcd"))
    pictures = np.random.default_rng(0).standard_normal((32, 3, 32, 32), dtype=np.float32)
    file = tmp_path / "model.int8.pte"
    QUANTIZERS["executorch"](Exportable(alive(network), contract, network), pictures).write((), file)
    one_by_one = open_file(file, 1)
    expected = np.concatenate([one_by_one(picture[None]) for picture in pictures[:8]])
    for first in range(1, 9):
        opened = open_file(file, 1)
        np.testing.assert_array_equal(opened(pictures[:first]), expected[:first])
        np.testing.assert_array_equal(opened(pictures[:8]), expected)


def test_single_outlier_does_not_widen_quantization_steps(subject, images, tmp_path):
    odd = np.concatenate([images, 100 * images[:1]])
    exact, result = logits_of_model(subject.model, images), []
    for calibration in (images, odd):
        QUANTIZERS["onnxruntime"](subject, calibration).write((), tmp_path / "model.int8.onnx")
        result.append(signal_to_noise_ratio(exact, open_file(tmp_path / "model.int8.onnx", 1)(images)))
    usual, with_odd = result
    # The extremes of all images together would cost 20 log10(100) = 40 decibels; the mean over 49 costs about 10.
    assert with_odd > usual - 15


@pytest.mark.parametrize("name", stressed(*NEWER_FAMILIES))
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_newer_families_are_quantized(tmp_path, name, engine):
    for needed in {"openvino": ("openvino", "nncf")}.get(engine, ()):
        pytest.importorskip(needed)
    network = get(name).replace(classes=CLASSES, resolution=32)
    contract = Contract(network=name, preprocessing=Preprocessing(resolution=32), classes=tuple("abcd"))
    subject = Exportable(alive(network), contract, network)
    pictures = np.random.default_rng(0).standard_normal((16, 3, 32, 32), dtype=np.float32)
    file = tmp_path / f"model.int8{ENGINES[engine].suffix}"
    QUANTIZERS[engine](subject, pictures).write(("stem",), file)
    exact = logits_of_model(subject.model, pictures)
    assert signal_to_noise_ratio(exact, open_file(file, 1)(pictures)) > 10


def test_int8_files_contain_int8_weights(subject, images, tmp_path):
    tool = QUANTIZERS["onnxruntime"](subject, images)
    tool.write(("head",), tmp_path / "model.int8.onnx")
    graph = onnx.load(tmp_path / "model.int8.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds["stem.conv.weight_quantized"] == onnx.TensorProto.INT8
    assert kinds["head.conv.weight"] == onnx.TensorProto.FLOAT
    assert not list(tmp_path.glob("*.data"))


def test_graph_nodes_map_to_blocks():
    assert block_path("stages.3.blocks.1.expand.conv") == "stages.3.blocks.1"
    assert block_path("stem.activation.sigmoid") == "stem"
    assert block_path("head.classifier") == "head"
    assert block_path("node_Conv_781") == "node_Conv_781"


class Waiting:
    """A fake quantizer whose files have a latency that depends on the number of first blocks in float."""

    is_quick = True
    blocks = tuple("abcdefgh")

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds

    def write(self, kept, file):
        assert tuple(kept) == self.blocks[: len(kept)]
        file.write_text(str(self.milliseconds[len(kept)]))

    @staticmethod
    def open(file, threads):
        seconds = float(file.read_text()) / 1000
        return lambda image: time.sleep(seconds)


@pytest.mark.parametrize(
    ("milliseconds", "float_blocks"),
    [((2, 9, 9, 9, 9), 0), ((9, 2, 9, 9, 9), 1), ((9, 9, 9, 9, 2), 4)],
)
@pytest.mark.stress
def test_first_blocks_without_int8_speedup_stay_float(milliseconds, float_blocks):
    # The latencies differ by far more than the error of sleep().
    engine = dataclasses.replace(ENGINES["onnxruntime"], openers={"float32": Waiting.open})
    assert slow_blocks(Waiting(milliseconds), engine, (3, 8, 8)) == Waiting.blocks[:float_blocks]


@pytest.mark.parametrize(
    ("times", "place"), [((4.05, 4, 4.02), 0), ((4.2, 4.01, 4), 1), ((9, 8, 7), 2), ((5,), 0), ((3, 2, 1, 1), 2)]
)
def test_fewest_float_blocks_among_equally_fast(times, place):
    assert first_tied(np.array(times)) == place


def test_quantization_record_round_trips(tmp_path):
    _, result = guarded([1, 40, 2, 0, 1], tmp_path, 1.0)
    assert Quantized.from_json(result.to_json()) == result
    assert [block.name for block in result.blocks if block.kept_float] == ["stages.0.blocks.1"]
    assert result.lost_points == pytest.approx(0.4)
    expected = paired_gap(4, 0, 1000)
    assert (result.lost_low, result.lost_high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_choice_is_made_without_the_test_images(tmp_path):
    tool, result = guarded([1, 40, 2, 0, 1], tmp_path, 0.5, test=8)
    assert (tmp_path / "model.int8.x").read_text() == "stages.0.blocks.1"
    assert len(tool.written) > 1
    assert (result.choice.split, result.choice.images) == ("validation", 1000)
    assert result.choice.lost_points == pytest.approx(0.4)
    assert result.lost_points == pytest.approx(0.8)
    # More than allowed, but not surely: the interval is 0.1 to 1.5 points.
    assert result.exceeds_bound
    assert result.lost_low < 0.5 < result.lost_high
    assert "more than allowed, but the interval includes the bound" in result.loss


def test_file_that_surely_loses_too_much_on_test_images_is_not_written(tmp_path):
    message = r"0\.40 points of accuracy on the 1000 validation images .* but 3\.00 on 1000 test images .* do this"
    with pytest.raises(QuantizationError, match=message):
        guarded([1, 40, 2, 0, 1], tmp_path, 0.5, test=30)
    assert list(tmp_path.iterdir()) == []


def test_hopeless_quantization_ends_after_two_attempts_on_few_images(tmp_path):
    read = []

    class Counting(Formula):
        def open(self, file):
            call = super().open(file)
            return lambda images: (read.append(len(images)), call(images))[1]

    tool = Counting([300] * 16)
    with pytest.raises(QuantizationError, match="with the 8 noisiest of 16 blocks in float"):
        quantize(
            tool, tool.open, labeled("validation"), lambda: labeled("test"),
            np.zeros((1, 3, 2, 2), np.float32), tmp_path / "x", engine="x", calibration_images=100,
        )  # fmt: skip
    assert len(tool.written) == 2
    assert sum(read) <= 4 * FIRST_LOOK


@given(st.integers(0, 1000))
def test_attempt_that_is_stopped_early_would_have_failed(wrong):
    made = _attempt(labeled("validation"), wrong_outputs(wrong), 0.5)
    assert made.complete or wrong / 10 > 0.5
    if made.complete:
        assert made.loss == pytest.approx(wrong / 10)


@pytest.mark.parametrize("wrongs", [[1, 40, 2, 0, 1], [1, 1, 0, 1], [60, 50, 40, 1, 1, 1, 1, 1]])
def test_emulated_attempts_write_one_file(tmp_path, wrongs):
    tool, result = guarded(wrongs, tmp_path, 0.5, make=Emulated)
    assert len(tool.written) == 1
    assert result.attempts == len(tool.quantized)
    kept = {block.name for block in result.blocks if block.kept_float}
    assert set((tmp_path / "model.int8.x").read_text().split()) == kept
    assert result.choice.lost_points <= 0.5


def test_file_that_computes_otherwise_than_emulated_is_not_written(tmp_path):
    with pytest.raises(QuantizationError, match="int8 loses"):
        guarded([1, 1, 1], tmp_path, 0.5, make=lambda wrongs: Emulated(wrongs, extra=20))
    assert list(tmp_path.iterdir()) == []


def test_rounded_file_is_judged_without_calibration(tmp_path):
    file = tmp_path / "model.bfloat16.x"
    file.write_text("x")
    test = labeled("test", 2)
    result = accept_rounded(
        lambda path: wrong_outputs(4), labeled("validation"), lambda: test, file, engine="x", precision="bfloat16"
    )
    assert (result.precision, result.calibration_images, result.blocks) == ("bfloat16", 0, ())
    assert (result.lost_points, result.choice.lost_points) == pytest.approx((0.2, 0.4))
    with pytest.raises(QuantizationError, match=r"bfloat16 loses 3\.\d+ points of accuracy on \d+ validation images"):
        accept_rounded(
            lambda path: wrong_outputs(30), labeled("validation"), lambda: test, file, engine="x", precision="bfloat16"
        )


def test_bfloat16_numerics_pass_the_guard(tiny):
    # torch's emulation stands for an engine, since few processors compute in bfloat16.
    model = alive(tiny.replace(classes=CLASSES))
    images = np.random.default_rng(0).standard_normal((256, 3, 16, 16), dtype=np.float32)
    exact = logits_of_model(model, images)
    best = np.sort(exact, axis=1)
    sure = best[:, -1] - best[:, -2] > 0.1 * np.abs(exact).max()

    def rounded(part):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return model(torch.from_numpy(part)).float().numpy()

    judge = TopOne(exact, exact.argmax(1))
    labels = LabeledImages("validation", judge, lambda call: map(call, np.split(images, 4)))
    outputs = rounded(images)
    assert 0 < np.abs(outputs - exact).max() < 0.05 * np.abs(exact).max()
    assert (outputs.argmax(1) == exact.argmax(1))[sure].all()
    assert _attempt(labels, rounded, 5).loss <= 5
