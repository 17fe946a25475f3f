"""Follow the tutorials as a reader would: run their commands as printed, in order, in an empty folder.

By default the commands run at a small size: fewer images, one epoch, fewer candidates. ``--full`` runs them word by
word, which takes about an hour on two cores.

    python docs/follow.py [--full] [--photos FOLDER] [--weights FILE] [TUTORIAL ...]
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

TUTORIALS = Path(__file__).parent / "tutorials"
ORDER = ("first-classifier", "weights-to-phone", "scaling-coefficients")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SMALLER = (
    (r"--epochs \d+", "--epochs 1"),
    (r"(inherit:\S+ --epochs 1)", r"\1 --set min_steps=2"),
    (r"--number \d+", "--number 2"),
    (r"--seeds 0,1", "--seeds 0"),
    (r"^(triscale compare practice.*)$", r"\1 --seeds 0"),
    (r"^(triscale fit .*--out runs/scaled)$", r"\1 --epochs 1 --threads 1"),
    (r"^(triscale deploy runs/phone --budget 20ms)$", r"\1 --precisions float32"),
    (r"--precision int8( --bound 3)?", "--precision int8 --bound 100"),
)
"""Patterns of commands and what stands in their place at a small size."""
DOWNLOADS = re.compile(r"triscale weights fetch ")
IMAGES_KEPT = 28
"""Practice images of each class and split at a small size."""
BEFORE = {"triscale profile --import benchmark": "python benchmark/runner.py"}
"""Steps that the text asks for in a sentence, before a command."""


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the language and text of the commands and Python blocks of a page, in order."""
    for language, text in FENCE.findall(page.read_text()):
        if language == "python":
            yield "python", text
        elif not language:
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("triscale "):
                    yield "", line.split(" # ")[0].strip()


def make_photos(folder: Path) -> None:
    """Write noisy pictures of three colors, for want of photos."""
    random = np.random.default_rng(0)
    for name, color in {"blue": (40, 60, 220), "green": (50, 200, 70), "red": (220, 50, 40)}.items():
        (folder / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.array(color) + random.normal(0, 40, (64, 64, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03d}.png")


def make_weights(file: Path) -> None:
    """Write untrained weights of EfficientNet-Lite0 under timm's names, for want of trained ones."""
    import timm
    import torch

    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), file)


def keep_few(folder: Path) -> None:
    """Delete all but some practice images of each class."""
    for directory in folder.glob("*/*/"):
        for image in sorted(directory.iterdir())[IMAGES_KEPT:]:
            image.unlink()


def steps_of(language: str, given: str, *, full: bool) -> list[list[str]]:
    """Return the processes that a command or a Python block of a page stands for."""
    if language == "python":
        return [[sys.executable, "-c", given]]
    text = given
    for pattern, smaller in () if full else SMALLER:
        text = re.sub(pattern, smaller, text)
    before = [step for start, step in BEFORE.items() if given.startswith(start)]
    steps = [shlex.split(step) for step in (*before, text.replace(" FILE ", " lite0.pth "))]
    return [[sys.executable, *(["-m", *step] if step[0] == "triscale" else step[1:])] for step in steps]


def follow(page: Path, folder: Path, *, full: bool) -> int:
    """Run all commands of a page in a folder, and return the number of failures."""
    failures = 0
    for language, given in commands(page):
        if DOWNLOADS.match(given):
            print(f"  skipped, it needs a download: {given}")
            continue
        began = time.monotonic()
        for step in steps_of(language, given, full=full):
            done = subprocess.run(step, cwd=folder, capture_output=True, encoding="utf-8", check=False, timeout=7200)
            print(f"  {time.monotonic() - began:5.1f} s  {' '.join(step[1:]).split(chr(10))[0]}")
            if done.returncode:
                failures += 1
                print(f"FAILED with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
                break
        sys.stdout.flush()
        if not full and "--only-data" in given:
            keep_few(folder / "practice" / "digits")
    return failures


def main() -> int:
    """Follow the named tutorials, or all; return 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tutorials", nargs="*", metavar="TUTORIAL", help=f"some of {', '.join(ORDER)}")
    parser.add_argument("--full", action="store_true", help="run every command exactly as printed")
    parser.add_argument("--photos", type=Path, help="folder of photos for the second tutorial")
    parser.add_argument("--weights", type=Path, help="weights of EfficientNet-Lite0 under timm's names")
    options = parser.parse_args()
    if unknown := set(options.tutorials) - set(ORDER):
        parser.error(f"there is no tutorial {', '.join(sorted(unknown))}; the tutorials are {', '.join(ORDER)}")
    failures = 0
    for name in options.tutorials or ORDER:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            if name == "weights-to-phone":
                if options.photos:
                    shutil.copytree(options.photos, folder / "photos")
                else:
                    make_photos(folder / "photos")
                if options.weights:
                    shutil.copy(options.weights, folder / "lite0.pth")
                else:
                    make_weights(folder / "lite0.pth")
            failures += follow(TUTORIALS / f"{name}.md", folder, full=options.full)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
