"""Write the model card of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from triscale.errors import UserError
from triscale.jobs.core.origins import origins_of
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.reports.run_report import collect_content
from triscale.jobs.reports.shown_paths import shown_path
from triscale.record import write_atomic
from triscale.report.card.card_content import CardContent
from triscale.report.card.card_text import card_text
from triscale.report.card.own_text import options_of, own_texts, sealed, with_own_texts
from triscale.training.metrics import wilson
from triscale.weights.licenses import spdx


def write_card(
    run: RunFolder,
    out: Path | None = None,
    *,
    license: str | None = None,
    watts: float | None = None,
    force: bool = False,
) -> Path:
    """Write the model card of a run from what the run has saved so far, and return its path.

    What a user has written into its places is kept, and so are license and watts of the card before.

    Args:
        run: The run.
        out: The file; by default ``README.md`` in the run.
        license: SPDX identifier of the license of the network.
        watts: Power of the machine during the training, for an estimate of the energy.
        force: Whether to replace a card that was edited outside of the places for a user's text.

    Raises:
        UserError: The file is no card of Triscale, or was edited outside of these places; the license is none of SPDX;
            or the watts are not positive.
    """
    if watts is not None and not 0 < watts < float("inf"):
        raise UserError(f"{watts:g} watts are not possible; give the mean power of the machine, such as 65")
    stated = None if license is None else spdx(license).lower()
    file = out or run.card_file
    try:
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file} ({error}); give another file with --out") from error
    options = options_of(before)
    if before and options is None and not force:
        raise UserError(
            f"{file} was edited outside of the places for your own text, or is no card of Triscale; move your text "
            "between the comments that begin with <!-- your text, give another file with --out, or replace it with "
            "--force"
        )
    kept = options or {}
    stated, watts = stated or kept.get("license"), watts or kept.get("watts")
    content = card_content(run, license=stated, watts=watts)
    text = with_own_texts(card_text(content), own_texts(before))
    text = text.encode("utf-8", errors="replace").decode()  # names of folders may be no text
    try:
        write_atomic(file, sealed(text, {"license": stated, "watts": watts}).encode())
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; give another file with --out") from error
    return file


def card_content(run: RunFolder, *, license: str | None = None, watts: float | None = None) -> CardContent:
    """Return everything that the model card of a run says.

    Args:
        run: The run.
        license: SPDX identifier of the license of the network, in lower case.
        watts: Power of the machine during the training.
    """
    spec, report = run.spec, collect_content(run, pictures=False)
    request, epochs = spec.request, [epoch for epoch in report.history if epoch.epoch > 0]
    origins = origins_of(request)
    if license is None and not request.trains and origins:
        license = origins[0].license
    rows = () if report.metrics is None else report.metrics.per_class
    return CardContent(
        run=report,
        name=spec.network.name,
        family=request.network.name.partition("@")[0],
        version=spec.version,
        classes=spec.classes,
        link=run.decision.link,
        preprocessing=spec.preprocessing,
        trains=request.trains,
        recipe=request.recipe.name,
        source=request.recipe.source,
        start=_start(spec),
        origins=origins,
        license=license,
        seconds=sum(epoch.seconds for epoch in epochs) if epochs else None,
        watts=watts,
        recalls=tuple((0.0, 1.0) if row.recall is None else wilson(row.recall * row.count, row.count) for row in rows),
        weights_sha256=_sha256(run.weights_file) if run.weights_file.is_file() else "",
        has_sbom=run.sbom_file.is_file(),
    )


def _start(spec: RunSpec) -> str:
    """Return what the weights were at the start, as a sentence."""
    start, teacher = spec.request.start, spec.request.teacher
    if start is None:
        text = "The training started from random weights."
    elif not spec.request.trains:
        text = f"The weights are {shown_path(start.run)}, as they are."
    elif start.inherits:
        text = f"The training started from weights inherited from a network of another size, {shown_path(start.run)}."
    else:
        text = f"The training started from the weights {shown_path(start.run)}."
    return text if teacher is None else f"{text} It also learned from the answers of {shown_path(teacher.run)}."


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
