"""Training images per second and core, compared with the loaders of torchvision and timm.

Files of an archive of photographs are repeated under other names and read from the page cache. Every row processes them
equally: decode, random crop of 8 to 100% of the area resized to a square, horizontal flip, AutoAugment where stated,
batches. Rows are interleaved and run once per round, on one thread of this process (or with --workers processes;
figures are then per worker). The table shows the median and the quartiles over rounds, and those of the ratio to the
first row *within a round*.

torchvision and timm run twice: with the batches of their documented settings (float32, normalized), and with 8-bit
batches that are normalized on the device, as in Triscale (and timm's prefetcher). timm has its own AutoAugment; the
one of Triscale in this table is torchvision's. --enlarge repeats the measurement with photographs enlarged by a factor,
of which large crops are decoded at a reduced size.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import timm.data
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from triscale.data.images.transforms import Augmentation, torchcodec_decoder
from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.split import Sample, Split
from triscale.errors import DataError
from triscale.network.contract import Preprocessing

RESULT = Path(__file__).parent / "results" / "loading_speed.txt"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = (0.08, 1.0)
Row = Callable[[int], Iterable[object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a tar archive of class folders with photographs")
    parser.add_argument("--copies", type=int, default=4, help="copies of each photograph")
    parser.add_argument("--enlarge", type=int, default=4, help="factor of the second measurement; 1 skips it")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"# python benchmarks/loading_speed.py {' '.join([given.photos.name, *sys.argv[2:]])}",
        "",
        *described(given),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for factor in dict.fromkeys((1, given.enlarge)):
            root = Path(folder) / str(factor)
            sizes = unpack(given.photos, root, given.copies if factor == 1 else 1, factor)
            for policy in ("none", "autoaugment"):
                title = f"{sizes}, {'with' if policy != 'none' else 'without'} AutoAugment"
                lines += ["", title, *speeds(rows(root, policy, given), given)]
    lines += ["", f"load average {os.getloadavg()[0]:.1f} at the end"]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    RESULT.write_text(text, encoding="utf-8")


def described(given: argparse.Namespace) -> list[str]:
    """Return lines about the machine and the libraries."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "pillow", "torchcodec")
    )
    return [
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; {libraries};",
        f"{given.resolution} px, batch {given.batch}, {given.workers} workers; {given.rounds} rounds, interleaved;",
        f"median (quartiles); load average {os.getloadavg()[0]:.1f} at the start",
    ]


def version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def unpack(archive: Path, root: Path, copies: int, factor: int) -> str:
    """Write copies of the photographs, and return a description of them."""
    sizes = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None or Path(member.name).suffix.lower() not in (".jpg", ".jpeg"):
                continue
            content = file.read()
            path = root / Path(member.name).parent.name / Path(member.name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            with Image.open(path) as image:
                large = image.convert("RGB").resize(
                    (image.width * factor, image.height * factor), Image.Resampling.LANCZOS
                )
            if factor > 1:
                large.save(path, quality=90)
            sizes.append(large.size)
            for number in range(1, copies):
                path.with_stem(f"{path.stem}-{number}").write_bytes(path.read_bytes())
    common = max(set(sizes), key=sizes.count)
    return f"{len(sizes) * copies} files of {len(sizes)} photographs, mostly {common[0]} x {common[1]}"


def rows(root: Path, policy: str, given: argparse.Namespace) -> dict[str, Row]:
    """Return functions from epoch to batches, torchvision's first."""
    loaders: dict[str, Row] = {
        "torchvision, float": torchvisions(root, policy, given, as_float=True),
        "torchvision, 8 bits": torchvisions(root, policy, given, as_float=False),
        "timm, float": timms(root, policy, given, as_float=True),
        "timm, 8 bits": timms(root, policy, given, as_float=False),
        "triscale, Pillow": ours(root, policy, given, None),
    }
    try:
        loaders["triscale, torchcodec"] = ours(root, policy, given, torchcodec_decoder())
    except DataError as error:
        print(error)
    return loaders


def ours(root: Path, policy: str, given: argparse.Namespace, decoder: Callable[[bytes], torch.Tensor] | None) -> Row:
    classes = sorted(path.name for path in root.iterdir())
    train = tuple(
        Sample(f"{name}/{path.name}", label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).iterdir())
    )
    split = Split(root=str(root), classes=tuple(classes), train=train, val=(), test=(), seed=0, how="all for training")
    loader = TrainLoader(
        split,
        Preprocessing(resolution=given.resolution, interpolation="bilinear"),
        Augmentation(crop_area=CROP, policy=policy),
        batch=given.batch,
        seed=0,
        workers=given.workers,
        cache_bytes=0,
        decode_jpeg=decoder,
    )
    return loader.epoch


def torchvisions(root: Path, policy: str, given: argparse.Namespace, *, as_float: bool) -> Row:
    """Return the presets of torchvision's reference training, with its default, PIL images."""
    steps = [
        transforms.RandomResizedCrop(given.resolution, scale=CROP, antialias=True),
        transforms.RandomHorizontalFlip(0.5),
        *(
            [transforms.AutoAugment(interpolation=transforms.InterpolationMode.BILINEAR)]
            if policy == "autoaugment"
            else []
        ),
        transforms.PILToTensor(),
        *([transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)] if as_float else []),
    ]
    dataset = torchvision.datasets.ImageFolder(str(root), transforms.Compose(steps))
    loader = DataLoader(
        dataset, given.batch, shuffle=True, num_workers=given.workers, persistent_workers=given.workers > 0
    )
    return lambda epoch: loader


def timms(root: Path, policy: str, given: argparse.Namespace, *, as_float: bool) -> Row:
    loader = timm.data.create_loader(
        timm.data.ImageDataset(str(root)),
        input_size=(3, given.resolution, given.resolution),
        batch_size=given.batch,
        is_training=True,
        scale=CROP,
        hflip=0.5,
        color_jitter=None,
        auto_augment="original" if policy == "autoaugment" else None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=given.workers,
        use_prefetcher=not as_float,
        persistent_workers=given.workers > 0,
        device=torch.device("cpu"),
    )
    batches = loader if as_float else loader.loader
    return lambda epoch: batches


def speeds(loaders: dict[str, Row], given: argparse.Namespace) -> list[str]:
    """Run all rows, interleaved, and return a table."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(given.rounds + 1):
        for name, row in loaders.items():
            started, count = time.perf_counter(), 0
            for batch in row(epoch):
                count += len(batch[1])
            if epoch:  # the first epoch warms up
                rates[name].append(count / (time.perf_counter() - started) / max(1, given.workers))
    first = rates[next(iter(loaders))]
    lines = [f"{'':26}{'images/s per core':>24}{'ratio to the first':>26}"]
    for name, values in rates.items():
        ratios = [rate / first_rate for rate, first_rate in zip(values, first, strict=True)]
        lines.append(f"{name:26}{spread(values):>24}{spread(ratios):>26}")
    return lines


def spread(values: list[float]) -> str:
    """Return the median with the quartiles, in three digits."""
    low, median, high = (
        f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
        for value in statistics.quantiles(values, n=4, method="inclusive")
    )
    return f"{median} ({low}-{high})"


if __name__ == "__main__":
    main()
