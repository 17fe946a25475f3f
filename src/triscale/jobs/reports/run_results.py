"""What a Run came to, as its page shows it: figures, wrong images, maps, latency, the exported file."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from triscale.data.images.color import BadImage
from triscale.data.images.decode import decode
from triscale.data.sources.store import Store, open_store
from triscale.errors import DataError
from triscale.jobs.core.run import Run
from triscale.jobs.profile.measure import ENGINES
from triscale.report.run import run_content as page
from triscale.results.deployment import Deployment, Export
from triscale.results.explanation import ExplainedImage, ExplainedImages
from triscale.results.latency import RunLatencies
from triscale.results.metrics import Metrics

THUMBNAIL_SIDE = 112
MAP_SIDE = 160
JPEG_QUALITY = 82
WRONG_OF_A_CLASS = 6
MAX_WRONG = 96
MAX_WRONG_BYTES = 400_000


def metric_facts(metrics: Metrics) -> page.MetricFacts:
    """Return the figures of an evaluation."""
    return page.MetricFacts(
        split=metrics.part,
        count=metrics.count,
        top1=metrics.top1,
        top1_low=metrics.top1_low,
        top1_high=metrics.top1_high,
        top5=metrics.top5,
        mean_class_accuracy=metrics.mean_class_accuracy,
        loss=metrics.loss,
        calibration_error=metrics.calibration_error,
        per_class=tuple(
            page.ClassMetric(
                name=row.name,
                count=row.count,
                precision=row.precision,
                recall=row.recall if row.count else None,
                f1=row.f1,
            )
            for row in metrics.per_class
        ),
        confusion=metrics.confusion,
        reliability=tuple(page.ReliabilityBin(**row.model_dump()) for row in metrics.reliability),
    )


def wrong_images(run: Run, root: str) -> tuple[page.WrongImage, ...]:
    """Return the wrong predictions about which the network was surest, with small pictures of their images.

    Up to six of each class; of many classes fewer, so that the page stays small. An image that cannot be read any more
    is left without a picture.

    Args:
        run: an evaluated one; of another there is none.
        root: of its images.
    """
    if not run.predictions_file.is_file():
        return ()
    maps = {item.file: item for item in _explained(run)}
    try:
        store = open_store(root)
    except DataError:
        store = None
    found: list[page.WrongImage] = []
    spent = 0
    for row in _surest_mistakes(run):
        if len(found) == MAX_WRONG or spent >= MAX_WRONG_BYTES:
            break
        image = None if store is None else _thumbnail(store, row["file"])
        overlay = _overlay(run, maps[row["file"]]) if image and row["file"] in maps else None
        spent += len(image or b"") + len(overlay or b"")
        found.append(
            page.WrongImage(
                file=row["file"],
                truth=row["truth"],
                predicted=row["predicted"],
                confidence=float(row["confidence"]),
                image=image,
                overlay=overlay,
            )
        )
    return tuple(sorted(found, key=lambda item: -item.confidence))


def _surest_mistakes(run: Run) -> Iterator[dict[str, str]]:
    """Yield wrong predictions: the surest of every class, then the second of every class, and so on."""
    wrong: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(run.predictions_file.read_text())):
        if row["truth"] != row["predicted"]:
            wrong.setdefault(row["truth"], []).append(row)
    for rows in wrong.values():
        rows.sort(key=lambda row: (-float(row["confidence"]), row["file"]))
    for rank in range(WRONG_OF_A_CLASS):
        yield from sorted(
            (rows[rank] for rows in wrong.values() if rank < len(rows)), key=lambda row: -float(row["confidence"])
        )


def _thumbnail(store: Store, file: str) -> bytes | None:
    try:
        image = decode(store.read(file))
    except BadImage:
        return None
    return _jpeg(image, THUMBNAIL_SIDE)


def _overlay(run: Run, item: ExplainedImage) -> bytes | None:
    return _small(run.maps_folder / item.overlay, THUMBNAIL_SIDE)


def _small(file: Path, side: int) -> bytes | None:
    """Return a picture that this program wrote as a small JPEG; None where it is gone or damaged."""
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


def map_cards(run: Run) -> tuple[page.MapCard, ...]:
    """Return the class activation maps of a Run, none where they were not drawn."""
    found = []
    for item in _explained(run):
        image = _small(run.maps_folder / item.image, MAP_SIDE)
        overlay = _small(run.maps_folder / item.overlay, MAP_SIDE)
        if image and overlay:
            found.append(
                page.MapCard(
                    file=item.file,
                    truth=item.truth,
                    predicted=item.predicted,
                    confidence=item.confidence,
                    right=item.right,
                    image=image,
                    overlay=overlay,
                )
            )
    return tuple(found)


def _explained(run: Run) -> Sequence[ExplainedImage]:
    return ExplainedImages.load(run.maps_file).images if run.maps_file.is_file() else ()


def latency_rows(run: Run) -> tuple[page.LatencyRow, ...]:
    """Return the latencies that were measured of a Run, those of its exported file first."""
    if not run.latency_file.is_file():
        return ()
    measurements = RunLatencies.load(run.latency_file).measurements
    return tuple(
        page.LatencyRow(
            engine=item.engine,
            batch=item.batch,
            threads=item.threads,
            resolution=item.resolution,
            median_ms=item.median_ms,
            lower_quartile_ms=item.lower_quartile_ms,
            upper_quartile_ms=item.upper_quartile_ms,
            samples=item.samples,
            note=item.precision,
            low_ms=item.low_ms,
            high_ms=item.high_ms,
            peak_bytes=item.peak_bytes,
            device=item.machine.processor,
            noisy=item.noise or "",
        )
        for item in sorted(measurements, key=lambda item: item.engine.startswith(ENGINES["torch"]))
    )


def measure_command(run: Run) -> str:
    """Return the command that measures the latency of a trained Run; nothing where it was measured."""
    if run.latency_file.is_file() or not run.weights_file.is_file():
        return ""
    return shlex.join(("triscale", "measure", str(run.folder)))


def exported_facts(run: Run) -> page.ExportFacts | None:
    """Return what is known of the exported file of a Run."""
    if not run.export_file.is_file():
        return None
    export = Export.load(run.export_file)
    return page.ExportFacts(
        file=export.file,
        size_bytes=export.size_bytes,
        max_error=export.max_error,
        agreement=export.agreement,
        images=export.images,
        engine=export.engine,
    )


def deployed_facts(run: Run) -> page.DeployedFacts | None:
    """Return which file of a Run was chosen for a device, and from what."""
    if not run.deploy_file.is_file():
        return None
    deployed = Deployment.load(run.deploy_file)
    blocks = deployed.quantized.blocks if deployed.quantized is not None else ()
    return page.DeployedFacts(
        file=deployed.file,
        device=deployed.device,
        threads=deployed.threads,
        predicted=deployed.predicted,
        rows=tuple(
            page.DeployedRow(
                engine=one.engine,
                precision=one.precision,
                size_bytes=one.size_bytes,
                accuracy=one.accuracy,
                milliseconds=one.milliseconds,
                verdict=one.verdict,
                chosen=one.chosen,
            )
            for one in sorted(deployed.candidates, key=lambda one: one.milliseconds or math.inf)
        ),
        kept_float=tuple(block.name for block in blocks if block.kept_float and not block.for_speed),
        faster_in_float=tuple(block.name for block in blocks if block.for_speed),
    )
