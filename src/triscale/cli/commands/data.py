"""The commands ``data check`` and ``data pack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.data_options import DATA_DEFAULTS, DataFlags
from triscale.cli.support.execution import execution
from triscale.cli.support.options import ImagesArgument, Json, OptionalOut, Out
from triscale.cli.support.terminal import console, print_json, table, visible
from triscale.errors import DataError
from triscale.progress_bars import progress_reporter

if TYPE_CHECKING:
    from triscale.data.sources.pack import Packed
    from triscale.jobs.data.check import ClassCounts, SetCheck, Sizes

MAX_ROWS = 30
MAX_LISTED = 5

LIKENESS = {"exact": "same file", "reencoded": "re-encoded", "group": "same group", "possible": "possibly"}


def check(
    images: ImagesArgument,
    /,
    *,
    out: OptionalOut = None,
    allow_leak: Annotated[bool, Parameter(negative="")] = False,
    options: DataFlags = DATA_DEFAULTS,
    json: Json = False,
) -> None:
    """Check a data set: classes, sizes, unreadable files, duplicates, and images that are in two splits.

    Parameters
    ----------
    out
        Folder for check.json and a contact sheet, contact-sheet.png.
    allow_leak
        Accept images that are certainly in two splits, as trainings do with the same option.
    options
        How the images are read.
    """
    from triscale.jobs.data import check as job

    with execution() as context:
        result = job.check(images, context, options=options.options(), out=out, allow_leak=allow_leak)
    if json:
        print_json(result)
    else:
        _print(result)
        if out is not None:
            _print_line(f"written to {out}: {job.SHEET}, {job.RECORD}")
    if result.problems:
        more = f" ({len(result.problems) - 1} more, see above)" if len(result.problems) > 1 else ""
        raise DataError(result.problems[0] + more)


def pack(
    images: str,
    /,
    *,
    out: Out,
    shard_size: str = "256MB",
    options: DataFlags = DATA_DEFAULTS,
    json: Json = False,
) -> None:
    """Pack a data set into tar shards in the WebDataset layout; all commands accept them instead of a folder.

    Splits, class names and paths are preserved, so training on the shards gives the same result. The same images give
    identical shards.

    Parameters
    ----------
    images
        A data set in any supported layout.
    out
        Folder to create; it appears only once it is complete.
    shard_size
        Maximum size of a shard, such as 256MB or 1GiB.
    options
        How the images are read.
    """
    from triscale.data.pipeline.scan import scan
    from triscale.data.sources import pack as packing
    from triscale.errors import Interrupted
    from triscale.progress import stop_on_signals

    max_bytes = packing.shard_size(shard_size)
    with progress_reporter() as reporter, stop_on_signals() as should_stop:

        def on_images(step: str, done: int, total: int) -> None:
            if should_stop():
                raise Interrupted("stopped; nothing was written; run the same command again to start from scratch")
            if done == 0 or step != steps[-1]:
                reporter.begin(step, total)
                steps.append(step)
            reporter.advance(done)

        steps = [""]
        packing.check_output_folder(images, out)
        scanned = scan(images, progress=lambda done, total: on_images("scan", done, total), options=options.options())
        packed = packing.pack(
            scanned, out, shard_bytes=max_bytes, progress=lambda done, total: on_images("pack", done, total)
        )
    if json:
        print_json(packed)
        return
    _print_packed(packed)


def _print_packed(packed: Packed) -> None:
    rows = [(row.split, f"{row.shards:,}", f"{row.images:,}", _bytes(row.bytes)) for row in packed.splits]
    table(("split", "shards", "images", "size"), rows)
    if packed.bad:
        _list("bad", [f"{bad.path}: {bad.reason}" for bad in packed.bad], "")
    _print_line(f"{len(packed.classes):,} classes; written to {packed.folder}")


def _print(result: SetCheck) -> None:
    sizes = result.sizes
    console.print(Path(result.root).name, style="bold", markup=False)
    _classes(result)
    formats = ", ".join(f"{count:,} {name}" for name, count in result.formats.items())
    console.print()
    count = result.channels
    channels = "" if count == 3 else f"; read with {count} channel{'' if count == 1 else 's'}"
    _print_line(f"files    {formats}; {_bytes(sizes.total_bytes)}{channels}")
    _print_line(f"sizes    {_sizes(sizes)}")
    _list("bad", [f"{bad.path}: {bad.reason}" for bad in result.bad], "none; every file can be read")
    _list(
        "copies",
        [" = ".join(group) for group in result.copies.groups]
        + [f"{pair.first} = {pair.second} (possibly)" for pair in result.copies.possible],
        "none",
    )
    if result.groups is not None:
        groups = result.groups
        _print_line(
            f"groups   {groups.count:,} by {groups.by}; {groups.smallest:,} to {groups.largest:,} images each, median "
            f"{groups.median:,}"
        )
    if result.splits != ("unsplit",):
        leaks = [
            f"{leak.path} {'and' if leak.match == 'group' else '='} {leak.copy} ({LIKENESS[leak.match]})"
            for leak in result.leaks
        ]
        _list("leaks", leaks, f"none; no image{' or group' if result.groups else ''} is in two splits")
    for warning in result.warnings:
        _print_line(f"warning  {warning}")
    for problem in result.problems:
        console.print(visible(f"problem  {problem}"), markup=False, style="bold red")


def _classes(result: SetCheck) -> None:
    splits = [split for split in result.splits if split != "unsplit"]
    largest = max(row.total for row in result.classes)
    rows = sorted(result.classes, key=lambda row: -row.total)
    hidden = len(rows) - MAX_ROWS if len(rows) > MAX_ROWS else 0
    shown: list[ClassCounts] = rows if not hidden else [*rows[: MAX_ROWS // 2], *rows[-MAX_ROWS // 2 :]]

    def line(row: ClassCounts) -> list[str]:
        bar = "█" * max(1, round(16 * row.total / largest)) if row.total else ""
        return [visible(row.name), bar, *(f"{row.images[split]:,}" for split in splits), f"{row.total:,}"]

    lines = [line(row) for row in shown]
    if hidden:
        lines.insert(MAX_ROWS // 2, [f"({hidden} more classes)", *[""] * (len(splits) + 2)])
    total = [f"{result.images[split]:,}" for split in splits]
    lines.append([f"{len(rows)} {'labels' if result.multi_label else 'classes'}", "", *total, f"{result.num_images:,}"])
    table(("class", "", *splits, "images"), lines, left=2)


def _list(title: str, lines: list[str], none: str) -> None:
    if not lines:
        _print_line(f"{title:<9}{none}")
        return
    _print_line(f"{title:<9}{len(lines):,}")
    for line in lines[:MAX_LISTED]:
        _print_line(f"  {line}")
    if len(lines) > MAX_LISTED:
        _print_line(f"  and {len(lines) - MAX_LISTED:,} more; --json shows all")


def _print_line(text: str) -> None:
    console.print(visible(text), markup=False)


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
