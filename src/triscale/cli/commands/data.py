"""Commands about sets of images: data check, data pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.options import ImagesArgument, Json
from triscale.cli.support.terminal import console, print_json, progress_reporter, table

if TYPE_CHECKING:
    from triscale.data.sources.pack import Packed
    from triscale.jobs.data.check import ClassCounts, SetCheck, Sizes

MAX_ROWS = 30
MAX_LISTED = 5

LIKENESS = {"exact": "same file", "reencoded": "re-encoded", "possible": "perhaps"}


def check(images: ImagesArgument, /, *, out: Path | None = None, json: Json = False) -> None:
    """Look at a set of images: classes, sizes, bad files, copies, and images that are in two splits.

    Parameters
    ----------
    out
        Folder for check.json and a contact sheet, contact-sheet.png.
    """
    from triscale.jobs.data import check as job

    with execution() as context:
        result = job.check(images, context, out=out)
    if json:
        print_json(result)
        return
    _print(result)
    if out is not None:
        _say(f"written to {out}: {job.SHEET}, {job.RECORD}")


def pack(images: str, /, *, out: Path, shard_size: str = "256MB", json: Json = False) -> None:
    """Pack a set of images into tar shards in WebDataset's layout, which every command takes like a folder.

    Parts, class names and paths are kept, so that a training gives the same result. The same images give the same
    shards, byte by byte.

    Parameters
    ----------
    images
        A set in any layout that a fit takes.
    out
        Folder to make; it appears when it is whole.
    shard_size
        Most bytes in a shard, such as 256MB or 1GiB.
    """
    from triscale.data.pipeline.scan import scan
    from triscale.data.sources import pack as packing
    from triscale.errors import Interrupted
    from triscale.progress import stop_on_signals

    most = packing.shard_size(shard_size)
    with progress_reporter() as reporter, stop_on_signals() as should_stop:

        def on_images(step: str, done: int, total: int) -> None:
            if should_stop():
                raise Interrupted("stopped; nothing was written, and the same command starts from scratch")
            if done == 0 or step != begun[-1]:
                reporter.begin(step, total)
                begun.append(step)
            reporter.advance(done)

        begun = [""]
        packing.check_output_folder(images, out)
        found = scan(images, progress=lambda done, total: on_images("scan", done, total))
        packed = packing.pack(found, out, shard_bytes=most, progress=lambda done, total: on_images("pack", done, total))
    if json:
        print_json(packed)
        return
    _print_packed(packed)


def _print_packed(packed: Packed) -> None:
    rows = [(part.split, f"{part.shards:,}", f"{part.images:,}", _bytes(part.bytes)) for part in packed.splits]
    table(("split", "shards", "images", "size"), rows)
    if packed.bad:
        _list("bad", [f"{bad.path}: {bad.reason}" for bad in packed.bad], "")
    _say(f"{len(packed.classes):,} classes; written to {packed.folder}")


def _print(result: SetCheck) -> None:
    sizes = result.sizes
    console.print(Path(result.root).name, style="bold", markup=False)
    _classes(result)
    formats = ", ".join(f"{count:,} {name}" for name, count in result.formats.items())
    _say(f"\nfiles    {formats}; {_bytes(sizes.total_bytes)}")
    _say(f"sizes    {_sizes(sizes)}")
    _list("bad", [f"{bad.path}: {bad.reason}" for bad in result.bad], "every file can be read")
    _list(
        "copies",
        [" = ".join(group) for group in result.copies.groups]
        + [f"{pair.first} = {pair.second} (perhaps)" for pair in result.copies.possible],
        "every image is there once",
    )
    if result.splits != ("unsplit",):
        leaks = [f"{leak.path} = {leak.copy} ({LIKENESS[leak.match]})" for leak in result.leaks]
        _list("leaks", leaks, "no image is in two splits")
    for warning in result.warnings:
        _say(f"look at  {warning}")


def _classes(result: SetCheck) -> None:
    parts = [part for part in result.splits if part != "unsplit"]
    most = max(row.total for row in result.classes)
    rows = sorted(result.classes, key=lambda row: -row.total)
    cut = len(rows) - MAX_ROWS if len(rows) > MAX_ROWS else 0
    shown: list[ClassCounts] = rows if not cut else [*rows[: MAX_ROWS // 2], *rows[-MAX_ROWS // 2 :]]

    def line(row: ClassCounts) -> list[str]:
        bar = "█" * max(1, round(16 * row.total / most)) if row.total else ""
        return [row.name, bar, *(f"{row.images[part]:,}" for part in parts), f"{row.total:,}"]

    lines = [line(row) for row in shown]
    if cut:
        lines.insert(MAX_ROWS // 2, [f"({cut} more classes)", *[""] * (len(parts) + 2)])
    total = [f"{sum(row.images[part] for row in rows):,}" for part in parts]
    lines.append([f"{len(rows)} classes", "", *total, f"{result.num_images:,}"])
    table(("class", "", *parts, "images"), lines, left=2)


def _list(title: str, lines: list[str], none: str) -> None:
    if not lines:
        _say(f"{title:<9}{none}")
        return
    _say(f"{title:<9}{len(lines):,}")
    for line in lines[:MAX_LISTED]:
        _say(f"  {line}")
    if len(lines) > MAX_LISTED:
        _say(f"  and {len(lines) - MAX_LISTED:,} more; --json shows all")


def _say(text: str) -> None:
    console.print(text, markup=False)


def _sizes(sizes: Sizes) -> str:
    smallest, largest = ("{} x {}".format(*size) for size in (sizes.smallest, sizes.largest))
    if smallest == largest and sizes.smallest_side == sizes.largest_side:
        return f"all {smallest} px"
    return (
        f"{smallest} to {largest} px; shorter side {sizes.smallest_side} to {sizes.largest_side}, "
        f"median {sizes.median_side}"
    )


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count = round(count / 1000)
    return f"{count:,} {unit}"
