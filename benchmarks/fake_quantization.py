"""Training with fake quantization compared with as many epochs without it, from the same trained networks.

Run with: python benchmarks/fake_quantization.py RUN [RUN ...] --images FOLDER --out DIR [--epochs 8] [--seeds 0 1]
              [--engine NAME ...]

Each run is trained further on its images twice, with ``quantization=int8`` and without, all else equal. Then each
engine exports the run and both results to int8 with every block quantized, except for the first blocks that ONNX
Runtime has faster in float: the bound is 100 points, so that no block stays in float for accuracy. Losses are on the
test images, with a paired 95% interval; the last column is the accuracy of the int8 file after fake quantization minus
that without. Results in DIR are not computed again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import triscale as ts
from marks import marks_of_file, paired, share
from triscale.deploy.engines import ENGINES, file_name, get_engine
from triscale.jobs.core.run import RunFolder
from triscale.results.accuracy_gap import paired_gap
from triscale.results.deployment import Exports

WAYS: dict[str, dict[str, Any]] = {"epochs without": {}, "epochs with": {"quantization": "int8"}}
ENGINES_HERE = ("onnxruntime", "openvino", "executorch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--engine", nargs="+", choices=ENGINES_HERE, default=list(ENGINES_HERE))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for source in arguments.runs:
        before = arguments.out / f"{source.name}-before"
        if not before.is_dir():
            shutil.copytree(source, before)
        rows: dict[str, list[dict[str, Any]]] = {"before": [measured(before, arguments)] * len(arguments.seeds)}
        for seed in arguments.seeds:
            for way, settings in WAYS.items():
                run = arguments.out / f"{source.name}-{way.replace(' ', '-')}-{seed}"
                if not RunFolder(run).weights_file.is_file():
                    train(source, run, settings, seed, arguments)
                rows.setdefault(way, []).append(measured(run, arguments))
        print_table(source, rows, arguments)


def train(source: Path, out: Path, settings: dict[str, Any], seed: int, arguments: argparse.Namespace) -> None:
    ts.train(
        arguments.images,
        source / "network.json",
        weights=source,
        epochs=arguments.epochs,
        settings=settings,
        seed=seed,
        out=out,
        threads=1,
        workers=0,
        allow_leak=True,
        data={"allow_missing_classes": True},
        progress=False,
    )


def measured(run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the marks of a run's float32 and int8 files by engine, and the number of blocks in float."""
    file = arguments.out / f"{run.name}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for engine in arguments.engine:
        if engine not in found:
            found[engine] = exported(run, engine)
            file.write_text(json.dumps(found))
    return found


def exported(run: Path, engine: str) -> dict[str, Any]:
    marks = {}
    for precision in ("float32", "int8"):
        command = [sys.executable, "-m", "triscale", "export", str(run), "--engine", engine, "--precision", precision]
        command += ["--bound", "100"] if precision == "int8" else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        file = run / file_name(get_engine(engine), precision)
        marks[precision] = marks_of_file(RunFolder(run), get_engine(engine), file)
    records = Exports.load(run / "exports.json").files
    blocks = next(one.quantized for one in records if one.export.file == file.name).blocks
    return {**marks, "in_float": sum(block.kept_float for block in blocks), "blocks": len(blocks)}


def print_table(source: Path, rows: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    print(f"\n{source.name}, {arguments.epochs} epochs, seeds {arguments.seeds}")
    for engine in arguments.engine:
        for way, found in rows.items():
            exact, rounded = ("".join(one[engine][name] for one in found) for name in ("float32", "int8"))
            lost = sum(a > b for a, b in zip(exact, rounded, strict=True))
            gap = paired_gap(lost, lost - exact.count("1") + rounded.count("1"), len(exact))
            difference, half = paired([(one[engine]["int8"], other[engine]["int8"]) for one, other in pairs(rows)])
            print(
                f"{ENGINES[engine].title:<13} {way:<15} float32 {100 * share(exact):6.2f}, "
                f"int8 {100 * share(rounded):6.2f}, "
                f"lost {100 * gap.share:+6.2f} ({100 * gap.low:+.2f} to {100 * gap.high:+.2f}) of {len(exact)}; "
                f"{found[0][engine]['in_float']} of {found[0][engine]['blocks']} blocks in float"
                + (f"; int8 with minus without {difference:+.2f} +- {half:.2f}" if way == "epochs with" else "")
            )


def pairs(rows: dict[str, list[dict[str, Any]]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return list(zip(rows["epochs with"], rows["epochs without"], strict=True))


if __name__ == "__main__":
    main()
