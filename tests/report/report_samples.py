"""Content as real runs would give it, built by numpy."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from triscale.report.draw.format import share
from triscale.report.run.run_content import (
    BadFileRow,
    ClassCount,
    ClassMetric,
    Content,
    CurvePoint,
    DataFacts,
    DeployedFacts,
    DeployedRow,
    ExportFacts,
    FamilyPoint,
    LatencyRow,
    LimitRow,
    MapCard,
    MetricFacts,
    NamedValue,
    NetworkFacts,
    ReliabilityBin,
    ScalingFacts,
    StageRow,
    WrongImage,
)

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_FILE = "it's a \"file\" & </title><script>alert('x')</script>.png"

STAGES = (
    ("stem", "Conv", 1, 16, 1, 32, 464, 475_136, 16_384),
    ("1", "MBConv 3x3, x1", 1, 8, 1, 32, 644, 524_400, 24_576),
    ("2", "MBConv 3x3, x4", 2, 16, 2, 16, 4_460, 780_000, 40_960),
    ("3", "MBConv 5x5, x4", 2, 24, 2, 8, 11_480, 560_000, 14_336),
    ("4", "MBConv 3x3, x4", 3, 40, 2, 4, 38_200, 450_000, 6_400),
    ("5", "MBConv 5x5, x4", 1, 64, 1, 4, 31_900, 150_000, 4_352),
    ("head", "Conv, pool, linear", 1, 128, 1, 4, 9_866, 20_464, 2_058),
)
FAMILIES = {
    "efficientnet": [
        ("b0", 5_288_548, 390e6), ("b1", 7_794_184, 700e6), ("b2", 9_109_994, 1e9), ("b3", 12_233_232, 1.8e9),
        ("b4", 19_341_616, 4.2e9), ("b5", 30_389_784, 9.9e9), ("b6", 43_040_704, 19e9), ("b7", 66_347_960, 37e9),
    ],
    "efficientnet_lite": [("lite0", 4_652_008, 407e6), ("lite2", 6_092_072, 900e6), ("lite4", 13_006_568, 2.6e9)],
    "mobilenet_v1": [("0.25", 475_544, 41e6), ("0.5", 1_342_536, 150e6), ("1.0", 4_231_976, 569e6)],
    "mobilenet_v2": [("0.35", 1_680_000, 59e6), ("1.0", 3_504_872, 300e6), ("1.4", 6_110_000, 582e6)],
    "mnasnet": [("mnasnet_a1", 3_887_038, 312e6), ("mnasnet_b1", 4_383_312, 315e6)],
    "resnet": [
        ("resnet18", 11_689_512, 1.8e9), ("resnet34", 21_797_672, 3.7e9), ("resnet50", 25_557_032, 4.1e9),
        ("resnet101", 44_549_160, 7.8e9), ("resnet152", 60_192_808, 11.5e9),
    ],
}  # fmt: skip
# As the papers have them (ImageNet, percent); some published none.
TOP1 = {
    "b0": 77.1, "b1": 79.1, "b2": 80.1, "b3": 81.6, "b4": 82.9, "b5": 83.6, "b6": 84.0, "b7": 84.3, "0.25": 50.6,
    "0.5": 63.7, "mnasnet_a1": 75.2, "mnasnet_b1": 74.5, "resnet50": 76.0,
}  # fmt: skip
SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def png(pixels: np.ndarray) -> bytes:
    """Encode an array of (height, width, 3) bytes."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    parts = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode an array of (height, width, 3) bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def digit(value: int, rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """Draw a digit of seven segments, blurred and noisy, with values from 0 to 1."""
    boxes = {"a": (4, 7, 9, 23), "g": (14, 17, 9, 23), "d": (25, 28, 9, 23), "f": (4, 17, 9, 12), "e": (14, 28, 9, 12),
             "b": (4, 17, 20, 23), "c": (14, 28, 20, 23)}  # fmt: skip
    image = np.zeros((32, 32))
    for name in SEGMENTS[value]:
        top, bottom, left, right = boxes[name]
        image[top:bottom, left:right] = 1
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return np.clip(image + rng.normal(0, 0.06, image.shape), 0, 1)[:side, :side]


def map_card(index: int, truth: str, predicted: str, confidence: float, glyph: int) -> MapCard:
    rng = np.random.default_rng(index)
    gray = digit(glyph, rng)
    rows, columns = np.mgrid[0:32, 0:32]
    heat = np.exp(-((rows - rng.integers(6, 26)) ** 2 + (columns - rng.integers(8, 24)) ** 2) / 60)
    color = np.stack([heat, 0.9 - np.abs(heat - 0.5) * 1.6, 1 - heat], axis=-1)
    overlay = 0.45 * gray[..., None] + 0.55 * color * (0.35 + 0.65 * heat[..., None])
    image = np.repeat(gray[..., None], 3, axis=-1)
    return MapCard(
        file=f"test/{truth}/{index:04d}.png", truth=truth, predicted=predicted, confidence=confidence,
        right=truth == predicted, image=png(image * 255), overlay=png(np.clip(overlay, 0, 1) * 255),
    )  # fmt: skip


def wrong_image(index: int, truth: str, predicted: str, confidence: float) -> WrongImage:
    """Return a wrong image; of three, one has a map as well, and one no picture at all."""
    gray = np.repeat(digit(int(truth) if truth.isdigit() else 8, np.random.default_rng(index))[..., None], 3, axis=-1)
    return WrongImage(
        file=f"test/{truth}/{index:04d}.png", truth=truth, predicted=predicted, confidence=confidence,
        image=None if index % 3 == 2 else jpeg(gray * 255),
        overlay=jpeg(gray[:, ::-1] * 255) if index % 3 == 1 else None,
    )  # fmt: skip


def network() -> NetworkFacts:
    names = ("name", "block", "repeats", "width", "stride", "side", "params", "macs", "activations")
    stages = tuple(StageRow(**dict(zip(names, row, strict=True))) for row in STAGES)
    return NetworkFacts(
        name="digits_fit_3M", resolution=32, classes=10, params=97_014, macs=2_960_000, activations=109_066,
        size_bytes=412_345, stages=stages,
        convention="multiply-accumulates of convolutions and linear layers; parameters without buffers.",
    )  # fmt: skip


def metrics(names: list[str], num_images: int, accuracy: float, seed: int = 1) -> MetricFacts:
    rng = np.random.default_rng(seed)
    size = len(names)
    table = np.zeros((size, size), dtype=int)
    for image in range(num_images):
        truth = image % size
        right = size == 1 or rng.random() < accuracy - 0.02 * (truth == size // 2)
        table[truth, truth if right else (truth + rng.integers(1, size)) % size] += 1
    rows = []
    for index, name in enumerate(names):
        hit, given, true = table[index, index], table[:, index].sum(), table[index].sum()
        precision, recall = (hit / given if given else None), (hit / true if true else None)
        f1 = 2 * hit / (given + true) if given + true else None
        rows.append(ClassMetric(name=name, count=int(true), precision=precision, recall=recall, f1=f1))
    top1 = float(np.trace(table) / table.sum())
    edges = np.linspace(0, 1, 11)
    counts = (np.geomspace(0.01, 1, 10) ** 1.2 * num_images * 0.7).astype(int)
    bins = tuple(
        ReliabilityBin(low=low, high=high, confidence=(low + high) / 2,
                       accuracy=float(np.clip((low + high) / 2 + rng.normal(0, 0.06), 0, 1)), count=int(number))
        for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
    )  # fmt: skip
    return MetricFacts(
        split="test", count=num_images, top1=top1, top1_low=max(top1 - 0.02, 0), top1_high=min(top1 + 0.01, 1),
        top5=0.997, loss=0.0812, calibration_error=0.013, per_class=tuple(rows),
        confusion=tuple(map(tuple, table.tolist())), reliability=bins,
    )  # fmt: skip


def curve(epochs: int = 20) -> tuple[CurvePoint, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        CurvePoint(
            epoch=epoch, train_loss=2.3 * np.exp(-epoch / 4) + 0.06 + rng.random() * 0.03,
            val_loss=2.2 * np.exp(-epoch / 4) + 0.1 + rng.random() * 0.05,
            val_top1=0.98 - 0.85 * np.exp(-epoch / 2.5) - rng.random() * 0.01,
            learning_rate=0.004 * (1 + np.cos(np.pi * epoch / epochs)) / 2, images_per_second=1510 + rng.random() * 60,
        )
        for epoch in range(1, epochs + 1)
    )  # fmt: skip


def digits() -> Content:
    """Return a run on ten digits with every section."""
    names = [str(value) for value in range(10)]
    wrong = (("8", "3", 0.61, 8), ("9", "4", 0.83, 9))
    cards = [map_card(index, name, name, 0.99 - index * 0.013, index) for index, name in enumerate(names)]
    cards += [map_card(20 + index, *row) for index, row in enumerate(wrong)]
    result = metrics(names, 360, 0.978)
    return Content(
        title="digits: fit to 3M MACs",
        verdict=f"{share(result.top1)} of 360 test images right, in 2.96M of 3M MACs",
        created="2026-03-01 12:30 UTC",
        warnings=("This is the demo: small images, a short training, one machine.",),
        asked=(
            LimitRow(name="MACs", asked="3M", achieved="2.96M", used=0.987, binding=True),
            LimitRow(name="Parameters", asked="500k", achieved="97.0k", used=0.194),
            LimitRow(name="Latency", asked="5 ms", achieved="1.42 ms", used=0.284),
        ),
        scaling=ScalingFacts(
            baseline="efficientnet_tiny", law="alpha 1.2, beta 1.1, gamma 1.15", phi=1.37, depth=1.28, width=1.14,
            resolution=1.21, notes=("One more repeat in stage 4 used up what rounding had left.",),
        ),
        network=network(),
        families=tuple(
            FamilyPoint(family=family, name=name, params=params, macs=int(macs),
                        top1=TOP1[name] / 100 if name in TOP1 else None)
            for family, members in FAMILIES.items()
            for name, params, macs in members
        ),
        data=DataFacts(
            root="/home/ada/digits", how="Split at random within each class, 60/20/20.", seed=0,
            classes=tuple(ClassCount(name=name, train=108, val=36, test=36) for name in names),
            bad=(BadFileRow(path="3/broken.png", reason="the file ends in the middle of the image"),),
        ),
        recipe=tuple(NamedValue(name=name, value=value) for name, value in (
            ("optimizer", "SGD with Nesterov momentum 0.9"), ("learning rate", "0.4 for 256 images, cosine to 0"),
            ("weight decay", "1e-5, not on norms"), ("epochs", "20, two of them warm-up"), ("batch", "64"),
        )),
        curve=curve(),
        images="digits",
        metrics=result,
        wrong=tuple(wrong_image(index, str(index % 10), str((index + 3) % 10), 0.99 - index / 50)
                    for index in range(14)),
        maps=tuple(cards),
        latency=(
            LatencyRow(engine="ONNX Runtime", batch=1, threads=1, resolution=32, median_ms=1.42, lower_quartile_ms=1.39,
                       upper_quartile_ms=1.51, samples=200, low_ms=1.40, high_ms=1.44, peak_bytes=14_000_000,
                       device="Intel Xeon"),
            LatencyRow(engine="ONNX Runtime", batch=16, threads=2, resolution=32, median_ms=9.81,
                       lower_quartile_ms=9.4, upper_quartile_ms=10.9, samples=200),
            LatencyRow(engine="PyTorch", batch=1, threads=1, resolution=32, median_ms=4.63, lower_quartile_ms=4.4,
                       upper_quartile_ms=5.2, samples=200, note="eager", low_ms=4.5, high_ms=4.8,
                       device="Intel Xeon", noisy="the quartiles lie far apart"),
        ),
        exported=ExportFacts(file="model.onnx", size_bytes=412_345, max_error=3.1e-6, agreement=1.0, images=360,
                             engine="ONNX Runtime 1.30"),
        deployed=DeployedFacts(
            file="deployed/model.int8.onnx", device="Intel Xeon", threads=1, kept_float=("head",),
            faster_in_float=("stem",),
            rows=(
                DeployedRow(engine="ONNX Runtime", precision="int8", size_bytes=121_000, accuracy=0.93,
                            milliseconds=0.71, verdict="taken: the fastest", chosen=True),
                DeployedRow(engine="OpenVINO", precision="float32", size_bytes=431_000, accuracy=0.94,
                            milliseconds=1.5, verdict="takes 2.11 x as long"),
                DeployedRow(engine="LiteRT", precision="float32", verdict="LiteRT is not installed"),
            ),
        ),
        environment=tuple(NamedValue(name=name, value=value) for name, value in (
            ("triscale", "0.1.0"), ("torch", "2.15.0"), ("machine", "Intel Xeon, 2 cores, Linux 6.1"), ("seed", "0"),
        )),
        repeat=("triscale demo --only-data --out digits",
                "triscale fit digits --budget 3M --epochs 20 --seed 0 --out run"),
        files=(NamedValue(name="network.json", value="the network, stage by stage"),
               NamedValue(name="weights.safetensors", value="its weights"),
               NamedValue(name="model.onnx", value="the exported file")),
    )  # fmt: skip


def hostile() -> Content:
    """Return content in which every text is an attack on the page."""

    def spoil(value: object) -> object:
        if isinstance(value, str):
            return f"{HOSTILE}{HOSTILE_FILE}"
        if isinstance(value, dict):
            return {key: value[key] if key in ("image", "overlay") else spoil(value[key]) for key in value}
        if isinstance(value, tuple | list):
            return tuple(spoil(item) for item in value)
        return value

    return Content.model_validate(spoil(digits().model_dump()))
