"""Content that the report of a run reads from its folder: records, and thumbnails of its test images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from triscale.data.images.bands import as_picture
from triscale.data.images.color import BadImage
from triscale.data.images.decode import NO_LIMITS, decode
from triscale.data.sources.store import Store, open_store
from triscale.errors import DataError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.profile.measure import ENGINES
from triscale.jobs.reports.shown_paths import shown_command
from triscale.network.contract import Preprocessing
from triscale.record import Record
from triscale.report.run.run_content import ImageCard
from triscale.results.explanation import ClassifiedImage, ExplainedImage, ExplainedImages
from triscale.results.latency import Measurement, RunLatencies

THUMBNAIL_SIDE = 112
MAP_SIDE = 160
JPEG_QUALITY = 82
WRONG_OF_A_CLASS = 6
MAX_WRONG = 96
MAX_WRONG_BYTES = 400_000

R = TypeVar("R", bound=Record)


def load_if_exists(kind: type[R], path: Path) -> R | None:
    """Load a record from a file of a run; None if the file does not exist."""
    return kind.load(path) if path.is_file() else None


def wrong_images(run: RunFolder, root: str, *, with_maps: bool = True) -> tuple[ImageCard, ...]:
    """Return the misclassified test images with the most confident predictions, with thumbnails.

    At most six per class, and fewer for data sets with many classes, so that the report stays small. An image that can
    no longer be read has no thumbnail.

    Args:
        run: The run; without predictions the result is empty.
        root: Folder or URL of its images.
        with_maps: Whether to show their class activation maps.
    """
    if not run.predictions_file.is_file():
        return ()
    maps = {item.file: item for item in _explained(run)} if with_maps else {}
    try:
        store = open_store(root)
    except DataError:
        store = None
    cards: list[ImageCard] = []
    num_bytes = 0
    for prediction in _most_confident_mistakes(run):
        if len(cards) == MAX_WRONG or num_bytes >= MAX_WRONG_BYTES:
            break
        image = None if store is None else _thumbnail(store, prediction.file, run.spec.preprocessing)
        has_map = image and prediction.file in maps
        overlay = _small(run.maps_folder / maps[prediction.file].overlay, THUMBNAIL_SIDE) if has_map else None
        num_bytes += len(image or b"") + len(overlay or b"")
        cards.append(ImageCard(prediction=prediction, image=image, overlay=overlay))
    return tuple(sorted(cards, key=lambda card: -card.prediction.confidence))


def map_cards(run: RunFolder) -> tuple[ImageCard, ...]:
    """Return the class activation maps of a run; missing or damaged images and maps are skipped."""
    cards = []
    for item in _explained(run):
        image = _small(run.maps_folder / item.image, MAP_SIDE)
        overlay = _small(run.maps_folder / item.overlay, MAP_SIDE)
        if image and overlay:
            cards.append(ImageCard(prediction=item, image=image, overlay=overlay))
    return tuple(cards)


def measurements(run: RunFolder) -> tuple[Measurement, ...]:
    """Return the measured latencies of a run, those of its exported file before those of the model."""
    latencies = load_if_exists(RunLatencies, run.latency_file)
    saved = latencies.measurements if latencies else ()
    return tuple(sorted(saved, key=lambda item: item.engine.startswith(ENGINES["torch"])))


def measure_command(run: RunFolder) -> str:
    """Return the command that measures the latency of a trained run; empty if it has been measured."""
    if run.latency_file.is_file() or not run.weights_file.is_file():
        return ""
    return shown_command(("triscale", "measure", run.folder))


def _most_confident_mistakes(run: RunFolder) -> Iterator[ClassifiedImage]:
    """Yield the most confident mistake of every class, then the second of every class, and so on."""
    wrong: dict[str, list[ClassifiedImage]] = {}
    for row in csv.DictReader(io.StringIO(run.predictions_file.read_text())):
        if row["truth"] != row["predicted"]:
            prediction = ClassifiedImage(
                file=row["file"], truth=row["truth"], predicted=row["predicted"], confidence=float(row["confidence"])
            )
            wrong.setdefault(prediction.truth, []).append(prediction)
    for rows in wrong.values():
        rows.sort(key=lambda row: (-row.confidence, row.file))
    for rank in range(WRONG_OF_A_CLASS):
        yield from sorted((rows[rank] for rows in wrong.values() if rank < len(rows)), key=lambda row: -row.confidence)


def _thumbnail(store: Store, file: str, preprocessing: Preprocessing) -> bytes | None:
    try:
        content = store.read(file, NO_LIMITS)
        image = decode(content, NO_LIMITS, preprocessing.bit_depth, preprocessing.channels)
    except BadImage:
        return None
    return _jpeg(as_picture(image), THUMBNAIL_SIDE)


def _small(file: Path, side: int) -> bytes | None:
    """Return a small JPEG of an image file; None if the file is missing or damaged."""
    try:
        with Image.open(file) as image:
            return _jpeg(image.convert("RGB"), side)
    except OSError:
        return None


def _jpeg(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def _explained(run: RunFolder) -> Sequence[ExplainedImage]:
    explained = load_if_exists(ExplainedImages, run.maps_file)
    return explained.images if explained else ()
