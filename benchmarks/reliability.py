"""Run the reliability tests at full size and collect their results.

Promises (numbers as in the README): 1 killed anywhere, 2 power cuts, 3 damaged checkpoints, 4 any number of processes,
5 out of memory, 6 non-finite steps, 7 hostile images, 8 duplicates between splits, 9 budgets, 13 silent corruption. A
failing test stops the benchmark, so there is no figure for a broken promise. Takes about 20 minutes on two cores.

``--promise 13`` runs the tests of one promise alone, and writes ``results/reliability_13.json``. ``--engine xla`` runs
those of the XLA engine, and writes ``results/reliability_xla.json``. ``--lines FILE`` keeps the figure of each finished
test in FILE; with the figures of an earlier call of the same version, these tests are not run again.

Duplicates (8) are searched in the given folders of images: one kind of copy of each image is added to the dataset, and
a reported pair of different images counts as a false positive.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from PIL import Image

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.images.decode import decode
from triscale.data.images.fingerprint import fingerprints_of, shrink
from triscale.data.sources.digits import write_digits
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.measurement.device import machine

TESTS = {
    "tests/training/test_kills.py": (1,),
    "tests/training/test_crash_points.py": (2,),
    "tests/training/test_loop.py": (3, 6),
    "tests/training/test_distributed.py": (4,),
    "tests/training/test_memory_fallback.py": (5,),
    "tests/data/test_decode.py": (7,),
    "tests/data/test_color.py": (7,),
    "tests/scaling/test_fit.py": (9,),
    "tests/search/test_study.py": (12,),
    "tests/search/test_postgres.py": (12,),
    "tests/weights/test_hostile.py": (10,),
    "tests/training/test_replay.py": (13,),
    "tests/jobs/test_verify.py": (13,),
}
"""The test files, and the promises whose figures they record."""
XLA_TESTS = {
    "tests/xla/test_xla_faults.py": (1, 2, 3, 5),
    "tests/xla/test_xla_steps.py": (4, 6),
    "tests/xla/test_xla_training.py": (4,),
}
"""Likewise for trainings with the XLA engine; what does not depend on the engine is not repeated."""
RESULTS = Path(__file__).parent / "results"
NUM_COPIES = 1000
QUALITIES = (50, 75, 95)

Figure = dict[str, object]


def reencoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return decode(file.getvalue())


def half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact copies": lambda image: image,
    **{f"JPEG {quality}": lambda image, q=quality: reencoded(image, "JPEG", quality=q) for quality in QUALITIES},
    "WebP 75": lambda image: reencoded(image, "WEBP", quality=75),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "half size": half,
    "half size, then JPEG 75": lambda image: reencoded(half(image), "JPEG", quality=75),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", action="append", default=[], metavar="NAME=FOLDER", help="images to search for duplicates"
    )
    parser.add_argument(
        "--promise",
        type=int,
        choices=sorted({number for numbers in TESTS.values() for number in numbers}),
        help="run the tests of one promise alone",
    )
    parser.add_argument("--engine", choices=("torch", "xla"), default="torch", help="the engine of the trainings")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="keep figures here, and go on behind them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, arguments.lines or Path(folder) / "figures.jsonl")


def measure(arguments: argparse.Namespace, lines: Path) -> None:
    """Run the chosen tests, and write their figures."""
    if arguments.engine == "xla":
        write("reliability_xla.json", " --engine xla", run_tests(list(XLA_TESTS), lines))
        return
    if arguments.promise is not None:
        files = [file for file, promises in TESTS.items() if arguments.promise in promises]
        found = [one for one in run_tests(files, lines) if one["promise"] == arguments.promise]
        write(f"reliability_{arguments.promise}.json", f" --promise {arguments.promise}", found)
        return
    figures = run_tests(list(TESTS), lines)
    with tempfile.TemporaryDirectory() as folder:
        named = {"digits": write_digits(Path(folder) / "digits")}
        named |= {name: Path(path) for name, _, path in (text.partition("=") for text in arguments.images)}
        for name, images in named.items():
            figures += copies_in(name, images)
    write("reliability.json", "".join(f" --images {name}=..." for name in list(named)[1:]), figures)


def write(name: str, options: str, figures: list[Figure]) -> None:
    """Write figures with their machine and command to a file, and print them."""
    command = f"python benchmarks/reliability.py{options}"
    record = {"command": command, "machine": machine().model_dump(mode="json"), "figures": figures}
    (RESULTS / name).write_text(json.dumps(record, indent=1) + "\n")
    print(f"{'promise':>7}  {'found':>6} of {'':<6} what")
    for found in figures:
        print(f"{found['promise']:>7}  {found['found']:>6} of {found['of']:<6} {found['what']}")


def run_tests(files: list[str], lines: Path) -> list[Figure]:
    """Run test files at full size, but for tests that have a figure, and sum the figures that they recorded."""
    lines.touch()
    finished = [line["test"] for line in read_lines(lines)]
    settings = os.environ | {"TRISCALE_FULL": "1", "TRISCALE_FIGURES": str(lines.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", *files, *(f"--deselect={test}" for test in finished)]
    subprocess.run(command, env=settings, check=True, cwd=Path(__file__).parent.parent)
    written = [{name: value for name, value in line.items() if name != "test"} for line in read_lines(lines)]
    sums: dict[tuple[int, str], Figure] = {}
    for line in written:
        total = sums.setdefault((line["promise"], line["what"]), {**line, "found": 0, "of": 0})
        total["found"] += line["found"]
        total["of"] += line["of"]
    return [sums[key] for key in sorted(sums)]


def read_lines(file: Path) -> list[Figure]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def copies_in(name: str, folder: Path) -> list[Figure]:
    """Return the number of detected copies of each kind, and the number of false positives."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    random.Random(0).shuffle(paths)
    originals, seen = [], set()
    for path in paths:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in seen and len(originals) < NUM_COPIES:
            seen.add(digest)
            originals.append(decode(content))
    count = len(originals)
    already = found_pairs(originals, [])
    figures = [figure(f"{name}: pairs among the images themselves", len(already), count)]
    for kind, copy in COPIES.items():
        pairs = found_pairs(originals, [copy(image) for image in originals], exact=kind == "exact copies")
        figures.append(figure(f"{name}: {kind} found", sum(second - first == count for first, second in pairs), count))
        # Copies of images that are duplicates themselves are duplicates too; any other pair is a false positive.
        others = {tuple(sorted((first % count, second % count))) for first, second in pairs if second - first != count}
        figures.append(figure(f"{name}: {kind}, false alarms", len(others - already), count))
    return figures


def figure(what: str, found: int, of: int) -> Figure:
    return {"promise": 8, "what": what, "found": found, "of": of}


def found_pairs(images: list[Image.Image], copies: list[Image.Image], *, exact: bool = False) -> set[tuple[int, int]]:
    """Return the index pairs of images that are certainly the same."""
    together = images + copies
    fingerprints = fingerprints_of([shrink(image) for image in together])
    scanned = tuple(
        ScannedImage(
            path=f"{number:06d}",
            label=0,
            width=image.width,
            height=image.height,
            num_bytes=1,
            format="PNG",
            sha256=hashlib.sha256(str(number % len(images) if exact else number).encode()).hexdigest(),
            fingerprint=fingerprint,
        )
        for number, (image, fingerprint) in enumerate(zip(together, fingerprints, strict=True))
    )
    found = find_duplicates(Scan(root="/images", classes=("a", "b"), unsplit=scanned))
    return {pair for group in found.groups for pair in combinations(sorted(map(int, group)), 2)}


if __name__ == "__main__":
    main()
