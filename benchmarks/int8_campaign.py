"""Accuracy, size and speed that int8 costs and gains: five families, several sets of images, four engines.

Run with: python benchmarks/int8_campaign.py signs=FOLDER grocery=FOLDER flowers12=FOLDER --out DIR
              [--litert PYTHON] [--family NAME ...] [--set NAME ...] [--engine NAME ...] [--again] [--table]

Each family is trained on each set at a small resolution, from random weights on the first set and from the weights of
the set before on others. Then each engine exports float32 and int8 as ``triscale export`` does: calibrated with
training images, chosen by validation images (by training images where there are fewer than 100), and measured once on
the test images. Both files are timed alternately, one image on one core.

DIR/rows.jsonl has each finished row; the same command goes on behind the last one, and an interrupted training
resumes. ``--again`` computes the selected rows again. ``--table`` only prints the rows that are there. LiteRT's
converter needs an environment of its own (``examples/litert.sh``): ``--litert`` is its interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import triscale as ts
from triscale.deploy.engines import ENGINES, file_name, get_engine
from triscale.deploy.export import size_of
from triscale.jobs.core.run import RunFolder
from triscale.measurement.latency import pinned_to_cores
from triscale.measurement.versus import ratio_interval, time_alternately
from triscale.results.deployment import Exports, Quantized

FAMILIES = {
    "mobilenet_v4_conv_small": 25_000,
    "mobilenet_v2": 18_000,
    "mobilenet_v3_large": 20_000,
    "efficientnet_b0": 15_000,
    "efficientnetv2_b0": 12_000,
}
"""Networks with the images that a training passes through them, which takes some minutes of one core."""
QUANTIZED_BY = ("onnxruntime", "openvino", "litert", "executorch")
ROUNDS, ROUND_SECONDS = 15, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER", help="sets of images, the first from random weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--litert", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--set", nargs="+", dest="chosen", help="by default all")
    parser.add_argument(
        "--engine", nargs="*", choices=QUANTIZED_BY, default=list(QUANTIZED_BY), help="none: train only"
    )
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    folders = dict(pair.split("=", 1) for pair in arguments.sets)
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in folders if arguments.chosen is None or name in arguments.chosen]
    file = arguments.out / "rows.jsonl"
    if not arguments.table:
        for name in names:
            for family in arguments.family:
                run = trained(family, list(folders), name, folders, arguments)
                for engine in arguments.engine:
                    key = [name, family, engine]
                    if not arguments.again and any(row["key"] == key for row in read_rows(file)):
                        continue
                    row = {"key": key, **measured(run, engine, arguments.litert)}
                    with file.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
                    print(line(row), flush=True)
    print_table(read_rows(file), list(folders))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the last row of each key."""
    rows = [json.loads(text) for text in file.read_text().splitlines()] if file.is_file() else []
    return list({tuple(row["key"]): row for row in rows}.values())


def trained(family: str, order: list[str], name: str, folders: dict[str, str], arguments: argparse.Namespace) -> ts.Run:
    """Return the run of a family on a set; it starts from the run on the set before, or from random weights."""
    out = arguments.out / "runs" / f"{name}-{family}"
    place = order.index(name)
    if RunFolder(out).weights_file.is_file():
        return ts.Run.open(out, folders[name], progress=False)
    start = {} if place == 0 else {"weights": trained(family, order, order[place - 1], folders, arguments)}
    began, images = time.process_time(), count_images(folders[name])
    run = ts.train(
        folders[name],
        family,
        resolution=arguments.resolution,
        epochs=max(1, round(FAMILIES[family] / images)),
        recipe="small",
        from_scratch=place == 0,
        out=out,
        threads=1,
        workers=0,
        progress=False,
        allow_leak=True,
        data={"allow_missing_classes": True},
        **start,
    )
    print(f"# {name}, {family}: {time.process_time() - began:.0f} s of processor time; {run}", flush=True)
    return run


def count_images(folder: str) -> int:
    """Return the number of images in class folders, or in those of the training images."""
    root = Path(folder)
    root = root / "train" if (root / "train").is_dir() else root
    return sum(1 for _ in root.glob("*/*"))


def measured(run: ts.Run, engine_name: str, litert: str) -> dict[str, Any]:
    """Export a run for an engine in both precisions, and return a row: losses, sizes and times, or the refusal."""
    engine, python = get_engine(engine_name), litert if engine_name == "litert" else sys.executable
    began = time.perf_counter()
    for precision in ("float32", "int8"):
        command = [python, "-m", "triscale", "export", str(run.path), "--engine", engine_name, "--precision", precision]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=dict(os.environ, NO_COLOR="1", COLUMNS="9999")
        )
        if done.returncode:
            return {"refusal": f"{precision}: {message(done.stderr)}"}
    seconds = time.perf_counter() - began
    files = [run.path / file_name(engine, precision) for precision in ("float32", "int8")]
    record = quantized(run.path, files[1].name)
    with pinned_to_cores(1):
        sessions = [engine.open(file, 1) for file in files]
        assert sessions[0].input_shape is not None
        image = np.random.default_rng(0).standard_normal((1, *sessions[0].input_shape), dtype=np.float32)
        times, _ = time_alternately([partial(session, image) for session in sessions], ROUNDS, ROUND_SECONDS)
    ratio, low, high = ratio_interval(times[:, 0], times[:, 1])
    return {
        "quantized": json.loads(record.to_json()),
        "milliseconds": np.median(times, axis=0).tolist(),
        "speedup": [ratio, low, high],
        "size_ratio": size_of(files[0]) / size_of(files[1]),
        "seconds": seconds,
    }


def quantized(folder: Path, file: str) -> Quantized:
    record = next(one for one in Exports.load(folder / "exports.json").files if one.export.file == file).quantized
    assert record is not None
    return record


def message(text: str) -> str:
    """Return the last message of a command in one line."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return next(
        (one for one in reversed(lines) if one.startswith(("triscale:", "error:"))), lines[-1] if lines else "?"
    )


def line(row: dict[str, Any]) -> str:
    name, family, engine = row["key"]
    head = f"{name:<10} {family:<24} {ENGINES[engine].title:<13}"
    if "refusal" in row:
        return f"{head} refused: {row['refusal']}"
    found = Quantized.from_json(json.dumps(row["quantized"]))
    ratio, low, high = row["speedup"]
    return (
        f"{head} {100 * found.float_accuracy:6.2f} {100 * found.accuracy:6.2f} "
        f"{found.lost_points:+6.2f} ({found.lost_low:+.2f} to {found.lost_high:+.2f}) of {found.images:<5} "
        f"size / {row['size_ratio']:.2f}, time / {ratio:.2f} ({low:.2f}-{high:.2f}); {method(found)}"
    )


def method(found: Quantized) -> str:
    """Return how a file was made, in a few words."""
    kept = [block for block in found.blocks if block.kept_float]
    slow = sum(block.for_speed for block in kept)
    text = f"{len(kept)} of {len(found.blocks)} blocks in float" if kept else "all in int8"
    text += f" ({slow} for speed)" if slow else ""
    return f"{text}, {found.choice.images} {found.choice.split} images ({found.choice.lost_points:+.2f})"


def print_table(rows: list[dict[str, Any]], order: list[str]) -> None:
    print(f"\n{platform.machine()}, one core, one image, on a machine that other processes use too: times are rough")
    print(
        "test accuracy in % of float32 and int8; points lost with a paired 95% interval; int8 is smaller and faster by"
    )
    print("these factors; blocks in float; images of the choice (points lost there)")
    families = list(FAMILIES)
    for row in sorted(rows, key=lambda one: (order.index(one["key"][0]), families.index(one["key"][1]))):
        print(line(row))
    print_engines(rows)
    done = {tuple(row["key"]) for row in rows}
    for name in order:
        for family in FAMILIES:
            missing = [ENGINES[engine].title for engine in QUANTIZED_BY if (name, family, engine) not in done]
            if missing:
                print(f"not done: {name}, {family}: {', '.join(missing)}")


def print_engines(rows: list[dict[str, Any]]) -> None:
    """Print what the files of each engine lose and gain."""
    print("\nby engine: rows, refused; mean points lost (range); medians of size and time (ranges)")
    lost_all: list[Quantized] = []
    for engine in QUANTIZED_BY:
        of_engine = [row for row in rows if row["key"][2] == engine]
        kept = [row for row in of_engine if "refusal" not in row]
        if not kept:
            continue
        records = [Quantized.from_json(json.dumps(row["quantized"])) for row in kept]
        lost_all += records
        lost = [record.lost_points for record in records]
        sizes, times = [row["size_ratio"] for row in kept], [row["speedup"][0] for row in kept]
        print(
            f"{ENGINES[engine].title:<13} {len(of_engine)}, {len(of_engine) - len(kept)}; "
            f"{np.mean(lost):+.2f} ({min(lost):+.2f} to {max(lost):+.2f}); "
            f"size / {np.median(sizes):.2f} ({min(sizes):.2f}-{max(sizes):.2f}), "
            f"time / {np.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
        )
    within = sum(record.lost_points <= record.bound_points for record in lost_all)
    certain = sum(record.lost_low > record.bound_points for record in lost_all)
    print(f"{len(rows)} rows, {len(lost_all)} files: {within} within the bound, {certain} certainly beyond it\n")


if __name__ == "__main__":
    main()
