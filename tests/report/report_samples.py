"""Synthetic report content that resembles real runs."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Literal, get_origin

import numpy as np
from PIL import Image

from triscale.network.contract import Confidence
from triscale.network.cost import Cost, StageCost
from triscale.network.spec import Head, MBConv, Network, Stage, Stem
from triscale.record import Record
from triscale.report.content import NamedValue
from triscale.report.draw.format import share
from triscale.report.run.run_content import FamilyPoint, ImageCard, RunContent
from triscale.results.confidence import Calibration, ConfidenceCheck, UnknownImages
from triscale.results.data_summary import BadFile, DataSummary, SplitCounts
from triscale.results.deployment import (
    BlockNoise,
    CandidateLoss,
    Deployment,
    DeploymentCandidate,
    Export,
    LossOfChoice,
    Quantized,
)
from triscale.results.explanation import ClassifiedImage
from triscale.results.history import Epoch
from triscale.results.latency import Measurement
from triscale.results.machine import Machine
from triscale.results.metrics import Bin, ClassMetrics, Metrics
from triscale.results.robustness import ClassRobustness, CorruptedAccuracy, Robustness, ShareInterval
from triscale.scaling.fit import Fit, Limit
from triscale.scaling.law import EFFICIENTNET, Scale

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_FILE = "it's a \"file\" & </title><script>alert('x')</script>.png"

# Name, output channels, output side, parameters, MACs, activations: one row for each part of NETWORK.
STAGES = (
    ("stem", 16, 32, 464, 475_136, 16_384),
    ("stages.0", 8, 32, 644, 524_400, 24_576),
    ("stages.1", 16, 16, 4_460, 780_000, 40_960),
    ("stages.2", 24, 8, 11_480, 560_000, 14_336),
    ("stages.3", 40, 4, 38_200, 450_000, 6_400),
    ("stages.4", 64, 4, 31_900, 150_000, 4_352),
    ("head", 128, 4, 9_866, 20_464, 2_058),
)
NETWORK = Network(
    name="digits_fit_3M",
    stem=Stem(width=16, stride=1),
    stages=tuple(
        Stage(block=MBConv(expansion=expansion, kernel=kernel), width=width, repeats=repeats, stride=stride)
        for expansion, kernel, width, repeats, stride in (
            (1, 3, 8, 1, 1), (4, 3, 16, 2, 2), (4, 5, 24, 2, 2), (4, 3, 40, 3, 2), (4, 5, 64, 1, 1),
        )
    ),
    head=Head(width=128),
    resolution=32,
    classes=10,
)  # fmt: skip
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
# ImageNet accuracies in percent as published; None if not published.
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


def map_card(index: int, truth: str, predicted: str, confidence: float, glyph: int) -> ImageCard:
    rng = np.random.default_rng(index)
    gray = digit(glyph, rng)
    rows, columns = np.mgrid[0:32, 0:32]
    heat = np.exp(-((rows - rng.integers(6, 26)) ** 2 + (columns - rng.integers(8, 24)) ** 2) / 60)
    color = np.stack([heat, 0.9 - np.abs(heat - 0.5) * 1.6, 1 - heat], axis=-1)
    overlay = 0.45 * gray[..., None] + 0.55 * color * (0.35 + 0.65 * heat[..., None])
    image = np.repeat(gray[..., None], 3, axis=-1)
    return ImageCard(
        prediction=prediction(index, truth, predicted, confidence),
        image=png(image * 255), overlay=png(np.clip(overlay, 0, 1) * 255),
    )  # fmt: skip


def wrong_image(index: int, truth: str, predicted: str, confidence: float) -> ImageCard:
    """Return a misclassified image; of three, one has a map as well, and one no thumbnail at all."""
    gray = np.repeat(digit(int(truth) if truth.isdigit() else 8, np.random.default_rng(index))[..., None], 3, axis=-1)
    return ImageCard(
        prediction=prediction(index, truth, predicted, confidence),
        image=None if index % 3 == 2 else jpeg(gray * 255),
        overlay=jpeg(gray[:, ::-1] * 255) if index % 3 == 1 else None,
    )


def prediction(index: int, truth: str, predicted: str, confidence: float) -> ClassifiedImage:
    file = f"test/{truth}/{index:04d}.png"
    return ClassifiedImage(file=file, truth=truth, predicted=predicted, confidence=confidence)


def cost() -> Cost:
    """Return the cost of ``NETWORK``, in round numbers."""

    def figures(params: int, macs: int, activations: int) -> dict[str, int]:
        more = {"buffers": 0, "macs_with_bias": macs, "macs_with_norm": macs}
        return {"params": params, "macs": macs, "activations": activations, **more}

    stages = tuple(
        StageCost(name=name, channels=channels, side=side, **figures(*counts))
        for name, channels, side, *counts in STAGES
    )
    return Cost(stages=stages, **figures(97_014, 2_960_000, 109_066) | {"buffers": 6_072})


def measurement(
    engine: str, batch: int, threads: int, quartiles: tuple[float, float, float], processor: str = "", **more: object
) -> Measurement:
    """Return a latency with its three quartiles in milliseconds."""
    machine = Machine(processor=processor, cores=2, memory_bytes=2**33, accelerator=None, system="Linux",
                      python="3.11", threads=2, packages=())  # fmt: skip
    lower, median, upper = quartiles
    return Measurement(
        engine=engine, batch=batch, threads=threads, resolution=32, warmup_calls=3, samples=200, machine=machine,
        lower_quartile_ms=lower, median_ms=median, upper_quartile_ms=upper, **more,
    )  # fmt: skip


def fit() -> Fit:
    """Return a fit to three limits, the first one binding."""
    return Fit(
        network=NETWORK, baseline="efficientnet_tiny", law=EFFICIENTNET, phi=1.37,
        scale=Scale(depth=1.28, width=1.14, resolution=1.21), steps=("one more repeat in stage 4",), binding="macs",
        limits=(
            Limit(name="macs", requested=3_000_000, achieved=2_960_000),
            Limit(name="params", requested=500_000, achieved=97_014),
            Limit(name="latency", requested=5_000, achieved=1_420),
        ),
    )  # fmt: skip


def deployment() -> Deployment:
    """Return an int8 file that was chosen among three candidates."""
    blocks = (BlockNoise(name="stem", decibels=30, kept_float=True, for_speed=True),
              BlockNoise(name="stages.0.blocks.0", decibels=40, kept_float=False),
              BlockNoise(name="head", decibels=9, kept_float=True))  # fmt: skip
    quantized = Quantized(file="model.int8.onnx", engine="ONNX Runtime", size_bytes=121_000, images=360,
                          calibration_images=128, float_accuracy=0.94, accuracy=0.93, lost_points=1, lost_low=0.6,
                          lost_high=1.4, bound_points=2, agreement=0.98, blocks=blocks, attempts=2,
                          choice=LossOfChoice(split="validation", images=300, lost_points=0.9, lost_low=0.4,
                                              lost_high=1.4))  # fmt: skip
    return Deployment(
        file="deployed/model.int8.onnx", device="Intel Xeon", threads=1, predicted=False, budget=None, bound_points=2,
        candidates=(
            DeploymentCandidate(engine="OpenVINO", precision="float32", size_bytes=431_000, accuracy=0.94,
                                milliseconds=1.5, verdict="takes 2.11 times as long"),
            DeploymentCandidate(engine="ONNX Runtime", precision="int8", size_bytes=121_000, accuracy=0.93,
                                loss=CandidateLoss(chosen_points=0.9, points=1, low=0.6, high=1.4),
                                milliseconds=0.71, verdict="chosen: the fastest", chosen=True),
            DeploymentCandidate(engine="LiteRT", precision="float32", verdict="LiteRT is not installed"),
        ),
        quantized=quantized, machine=measurement("", 1, 1, (1, 1, 1)).machine,
    )  # fmt: skip


def metrics(names: list[str], num_images: int, accuracy: float, seed: int = 1) -> Metrics:
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
        precision, recall = (hit / given if given else 0.0), (hit / true if true else 0.0)
        f1 = 2 * hit / (given + true) if given + true else 0.0
        rows.append(ClassMetrics(name=name, count=int(true), precision=precision, recall=recall, f1=f1))
    top1 = float(np.trace(table) / table.sum())
    edges = np.linspace(0, 1, 11)
    counts = (np.geomspace(0.01, 1, 10) ** 1.2 * num_images * 0.7).astype(int)
    bins = tuple(
        Bin(low=low, high=high, confidence=(low + high) / 2,
                       accuracy=float(np.clip((low + high) / 2 + rng.normal(0, 0.06), 0, 1)), count=int(number))
        for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
    )  # fmt: skip
    return Metrics(
        split="test", count=num_images, top1=top1, top1_low=max(top1 - 0.02, 0), top1_high=min(top1 + 0.01, 1),
        top5=0.997, mean_class_accuracy=float(np.mean([row.recall for row in rows])), loss=0.0812,
        calibration_error=0.013, per_class=tuple(rows),
        confusion=tuple(map(tuple, table.tolist())), reliability=bins,
        confidence=ConfidenceCheck(
            temperature=0.62, loss_before=0.0931, calibration_error_before=0.084, coverage=0.9, covered=0.981,
            covered_low=0.961, covered_high=0.991, mean_set_size=1.02, single_share=0.98, kept=0.95,
            called_unknown=0.047, called_unknown_low=0.03, called_unknown_high=0.074,
        ),
    )  # fmt: skip


def history(epochs: int = 20) -> tuple[Epoch, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        Epoch(
            epoch=epoch, step=23 * epoch, seconds=1.0, train_loss=2.3 * np.exp(-epoch / 4) + 0.06 + rng.random() * 0.03,
            val_loss=2.2 * np.exp(-epoch / 4) + 0.1 + rng.random() * 0.05,
            val_top1=0.98 - 0.85 * np.exp(-epoch / 2.5) - rng.random() * 0.01,
            learning_rate=0.004 * (1 + np.cos(np.pi * epoch / epochs)) / 2, images_per_second=1510 + rng.random() * 60,
        )
        for epoch in range(1, epochs + 1)
    )  # fmt: skip


def robustness(names: list[str]) -> Robustness:
    kinds = ("brightness", "blur", "noise", "jpeg", "rotation")
    row = tuple(ShareInterval(value=0.9 - k / 10, low=0.8 - k / 10, high=0.95 - k / 10) for k in range(5))
    clean = ShareInterval(value=0.97, low=0.93, high=0.99)
    return Robustness(
        images=200, available=360, seed=0, side=256, kinds=kinds, meanings=tuple(f"unit of {kind}" for kind in kinds),
        all_classes=ClassRobustness(name="", count=200, clean=clean, corrupted=row),
        classes=(
            *(ClassRobustness(name=name, count=20, clean=clean, corrupted=row) for name in names[1:]),
            ClassRobustness(name=names[0], count=0, clean=None, corrupted=()),
        ),
        strengths=tuple(
            CorruptedAccuracy(corruption=kind, strength=strength, amount=strength / 10,
                              top1=ShareInterval(value=0.95 - strength / 10, low=0.3, high=0.97))
            for kind in kinds for strength in range(1, 6)
        ),
    )  # fmt: skip


def digits() -> RunContent:
    """Return a run on ten digits with every section."""
    names = [str(value) for value in range(10)]
    wrong = (("8", "3", 0.61, 8), ("9", "4", 0.83, 9))
    cards = [map_card(index, name, name, 0.99 - index * 0.013, index) for index, name in enumerate(names)]
    cards += [map_card(20 + index, *row) for index, row in enumerate(wrong)]
    result = metrics(names, 360, 0.978)
    return RunContent(
        title="digits: fit to 3M MACs",
        verdict=f"{share(result.top1)} of 360 test images right, in 2.96M of 3M MACs",
        created="2026-03-01 12:30 UTC",
        warnings=("This is the demo: small images, a short training, one machine.",),
        fit=fit(),
        network=NETWORK,
        cost=cost(),
        families=tuple(
            FamilyPoint(family=family, name=name, params=params, macs=int(macs),
                        top1=TOP1[name] / 100 if name in TOP1 else None)
            for family, members in FAMILIES.items()
            for name, params, macs in members
        ),
        data=DataSummary(
            root="/home/ada/digits", smallest_side=32, median_side=32, largest_side=32,
            classes=tuple(SplitCounts(name=name, train=108, val=36, test=36) for name in names),
            bad=(BadFile(path="3/broken.png", reason="the file ends in the middle of the image"),),
        ),
        split="Split at random within each class, 60/20/20.",
        seed=0,
        recipe=tuple(NamedValue(name=name, value=value) for name, value in (
            ("optimizer", "SGD with Nesterov momentum 0.9"), ("learning rate", "0.4 for 256 images, cosine to 0"),
            ("weight decay", "1e-5, not on norms"), ("epochs", "20, two of them warm-up"), ("batch", "64"),
        )),
        history=history(),
        images="digits",
        metrics=result,
        calibration=Calibration(
            confidence=Confidence(
                temperature=0.62, coverage=0.9, set_threshold=0.43, kept=0.95, unknown_threshold=5.25
            ),
            images=360, loss_before=0.092, loss_after=0.081, calibration_error_before=0.08,
            calibration_error_after=0.012, notes=("there is a note",),
            unknown=UnknownImages(
                folder="fruit", images=120, unreadable=1, auroc=0.911, auroc_low=0.881, auroc_high=0.934,
                called_unknown=0.643, called_unknown_low=0.554, called_unknown_high=0.723,
            ),
        ),
        robustness=robustness(names),
        wrong=tuple(wrong_image(index, str(index % 10), str((index + 3) % 10), 0.99 - index / 50)
                    for index in range(14)),
        maps=tuple(cards),
        latency=(
            measurement("ONNX Runtime", 1, 1, (1.39, 1.42, 1.51), "Intel Xeon", low_ms=1.40, high_ms=1.44,
                        peak_bytes=14_000_000),
            measurement("ONNX Runtime", 16, 2, (9.4, 9.81, 10.9)),
            measurement("PyTorch", 1, 1, (4.4, 4.63, 5.2), "Intel Xeon", low_ms=4.5, high_ms=4.8,
                        noise="the quartiles lie far apart"),
        ),
        exported=Export(file="model.onnx", size_bytes=412_345, max_error=3.1e-6, agreement=1.0, images=360,
                        engine="ONNX Runtime 1.30"),
        deployed=deployment(),
        environment=tuple(NamedValue(name=name, value=value) for name, value in (
            ("triscale", "0.1.0"), ("torch", "2.15.0"), ("machine", "Intel Xeon, 2 cores, Linux 6.1"), ("seed", "0"),
        )),
        repeat=("triscale demo --only-data --out digits",
                "triscale fit digits --budget 3M --epochs 20 --seed 0 --out run"),
        files=(NamedValue(name="network.json", value="the network, stage by stage"),
               NamedValue(name="weights.safetensors", value="its weights"),
               NamedValue(name="model.onnx", value="the exported file")),
    )  # fmt: skip


def spoiled(value: Any) -> Any:
    """Return a record in which every text that is not one of a few allowed values is an attack on the report."""
    if isinstance(value, str):
        return f"{HOSTILE}{HOSTILE_FILE}"
    if isinstance(value, tuple):
        return tuple(spoiled(item) for item in value)
    if isinstance(value, Network | Fit):
        return value.replace(**{"name": spoiled("")} if isinstance(value, Network) else {"baseline": spoiled("")})
    if isinstance(value, Record):
        fields = {
            name: getattr(value, name)
            for name, field in type(value).model_fields.items()
            if get_origin(field.annotation) is not Literal
        }
        return value.replace(**{name: spoiled(field) for name, field in fields.items()})
    if isinstance(value, BadFile):
        return BadFile(path=spoiled(""), reason=spoiled(""))
    return value


def hostile() -> RunContent:
    """Return content in which every text is an attack on the report."""
    return spoiled(digits())
