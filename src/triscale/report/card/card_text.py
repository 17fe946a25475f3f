"""A model card as Markdown: what the network is, how to use it, what it was made of, what it can do, what it cannot.

Every sentence follows from a record of the run; what nobody measured or stated is called unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

from triscale.report.card.card_content import CardContent
from triscale.report.card.card_header import card_header
from triscale.report.card.card_results import limits_section, results_section
from triscale.report.card.markdown import escaped, fenced, folded, markdown_table, table_by_class
from triscale.report.card.own_text import place
from triscale.report.draw.format import grouped, size
from triscale.results.data_summary import SplitCounts

JOULES = 3.6e6
"""Of a kilowatt hour."""


def card_text(content: CardContent) -> str:
    """Return a model card without its last line.

    Args:
        content: What it says.
    """
    sections = [
        card_header(content),
        _introduction(content),
        place("intended use"),
        _usage(content),
        _data(content),
        place("data"),
        _training(content),
        results_section(content),
        limits_section(content),
        place("limits and risks"),
        _environment(content),
        _energy(content),
        _licenses(content),
        place("contact and citation"),
    ]
    return "\n\n".join(section for section in sections if section)


def _introduction(content: CardContent) -> str:
    run, kind = content.run, "the labels of an image, any number of" if content.link == "sigmoid" else "the class of"
    title = escaped(content.name) + (f" for {escaped(run.images)}" if run.images else "")
    what = kind if content.link == "sigmoid" else f"{kind} an image, one of"
    made = "trained" if content.trains else "prepared, without a training,"
    lead = (
        f"This network predicts {what} {len(content.classes):,} "
        f"({_enumerated(content.classes)}). It was {made} with Triscale {content.version}."
    )
    return f"# {title}\n\n{lead}\n\n{escaped(run.verdict)}"


def _enumerated(names: tuple[str, ...], shown: int = 12) -> str:
    rest = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(escaped(name) for name in names[:shown]) + rest


def _usage(content: CardContent) -> str:
    images, exported = content.preprocessing, content.run.exported
    channels, height, width = images.input_shape
    kind = {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels")
    shape = "the largest centered square" if width == height else f"the largest centered part of {width}:{height}"
    code = 'import triscale as ts\n\nrun = ts.Run.open(".")\nprint(run.predict("image.jpg"))'
    parts = [
        "## Use\n\nIn the folder of this card, with the other files of the run:",
        fenced("sh", "pip install triscale\ntriscale predict . IMAGE_OR_FOLDER"),
        fenced("python", code),
    ]
    if exported is not None and exported.file.endswith(".onnx"):
        parts.append(
            f"`{exported.file}` ({size(exported.size_bytes)}) runs in ONNX Runtime without Triscale; its metadata hold "
            "the class names and the preprocessing."
        )
    parts.append(
        f"Preprocessing, which the commands do themselves: {kind}, {shape} with both "
        f"sides multiplied by {images.crop:g}, resized to {width} x {height} pixels "
        f"({images.interpolation}, antialiased), divided by 255, then normalized with mean {_values(images.mean)} and "
        f"standard deviation {_values(images.std)}."
    )
    return "\n\n".join(parts)


def _values(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _data(content: CardContent) -> str:
    run, data = content.run, content.run.data
    if data is None:
        return "## Data\n\nThe run has no images." if not content.trains else ""
    total = SplitCounts(name="all", **{
        split: sum(getattr(row, split) for row in data.classes) for split in ("train", "val", "test")
    })  # fmt: skip
    used = ("training", "validation", "test") if content.trains else ("calibration", "validation", "test")
    labels = "labels" if content.link == "sigmoid" else "images"
    rows = [
        (name, grouped(row.train), grouped(row.val), grouped(row.test))
        for name, row in [*((escaped(row.name), row) for row in data.classes if _has_images(row)), ("**all**", total)]
    ]
    parts = [
        f"## Data\n\n{escaped(run.images)}: {labels} of each class and split. {escaped(run.split)}",
        table_by_class(("class", *used), rows),
        f"Shorter sides of the images: {data.smallest_side} to {data.largest_side} pixels, median {data.median_side}.",
    ]
    found = []
    if data.bad:
        found.append(f"{grouped(len(data.bad))} files could not be read as images and were left out.")
    if data.copies:
        found.append(f"{grouped(data.copies)} images are copies of another image in the same split.")
    found += [f"**{escaped(warning)}**" for warning in run.warnings]
    parts.append(
        "\n".join(f"- {sentence}" for sentence in found) or "The scan found no unreadable files and no copies."
    )
    return "\n\n".join(parts)


def _has_images(row: SplitCounts) -> bool:
    return bool(row.train or row.val or row.test)


def _training(content: CardContent) -> str:
    run = content.run
    if not content.trains:
        return f"## Training\n\nNone: {escaped(content.start[:1].lower() + content.start[1:])}"
    finished = [epoch for epoch in run.history if epoch.epoch > 0]
    source = f" ({escaped(content.source)})" if content.source else ""
    parts = [f"## Training\n\n{escaped(content.start)} The recipe is `{content.recipe}`{source}."]
    if finished:
        length = f"{len(finished)} epochs, {finished[-1].step:,} steps, {duration_text(content.seconds)}."
        parts.append(f"{length} {run.kept}".rstrip())
    parts.append(folded("All settings", markdown_table(
        ("setting", "value"), [(escaped(row.name), escaped(row.value)) for row in run.recipe], left=2
    )))  # fmt: skip
    if run.repeat:
        parts.append("The command:\n\n" + fenced("sh", "\n".join(run.repeat)))
    return "\n\n".join(parts)


def duration_text(seconds: float | None) -> str:
    """Return a duration in words.

    Example:
        >>> duration_text(59), duration_text(200), duration_text(9000)
        ('59 seconds', '3.3 minutes', '2.5 hours')
    """
    if seconds is None:
        return "an unknown time"
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= length * 2:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _environment(content: CardContent) -> str:
    rows = [(escaped(row.name), escaped(row.value)) for row in content.run.environment]
    parts = ["## Environment", markdown_table(("what", "value"), rows, left=2)]
    if content.has_sbom:
        parts.append("`sbom.cdx.json` lists all packages with their versions and licenses (CycloneDX 1.6).")
    if content.weights_sha256:
        parts.append(f"SHA-256 of `model.safetensors`: `{content.weights_sha256}`")
    return "\n\n".join(parts)


def _energy(content: CardContent) -> str:
    if content.seconds is None:
        return ""
    if content.watts is None:
        text = (
            f"Not estimated: the epochs took {duration_text(content.seconds)}, and the power of the machine is not "
            "known. With a measured or assumed number of watts: `triscale card RUN --watts N`."
        )
    else:
        energy = content.watts * content.seconds / JOULES
        text = (
            f"About {energy:.2g} kWh for the training: {duration_text(content.seconds)} "
            f"at {content.watts:g} W. The power is what the author of this card stated, not a measurement; scan, "
            "evaluation, export and stopped epochs are not counted."
        )
    return f"## Energy\n\n{text}"


def _licenses(content: CardContent) -> str:
    own = f"The license of this network is {content.license}, as its author stated."
    if content.license is None:
        own = "The author of this network has not stated its license (`triscale card RUN --license SPDX`)."
    parts = [f"## Licenses\n\n{own}"]
    if content.origins:
        rows = [
            (
                escaped(one.weights),
                one.license_in_words,
                one.url or (f"https://huggingface.co/{one.hub}" if one.hub else ""),
            )
            for one in content.origins
        ]
        parts += ["It learned from these weights:", markdown_table(("weights", "license", "source"), rows, left=3)]
        parts += [
            f"The license of {escaped(one.weights)} forbids commercial use."
            for one in content.origins
            if one.is_non_commercial
        ]
    elif content.trains:
        parts.append("It was not trained from other weights.")
    parts.append("The images may have a license of their own, which the run does not know.")
    return "\n\n".join(parts)
