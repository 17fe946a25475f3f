"""The report that compares several runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from triscale.errors import RunError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.reports.run_report import percent, published_points
from triscale.jobs.reports.shown_paths import shown_path
from triscale.network.cost import si
from triscale.record import write_atomic
from triscale.report.content import NamedValue
from triscale.report.render import render_runs
from triscale.report.runs.runs_content import RunsContent
from triscale.results.run_comparison import ComparedRuns


def write_runs_report(compared: ComparedRuns, out: Path) -> Path:
    """Write the report of several runs, and return its path.

    Args:
        compared: The runs.
        out: Path of the report, which ends in ``.html``.

    Raises:
        RunError: The report cannot be written to ``out``.
    """
    check_report_file(compared, out)
    write_atomic(out, render_runs(collect_runs_content(compared)).encode("utf-8", errors="replace"))
    return out


def check_report_file(compared: ComparedRuns, out: Path) -> None:
    """Check the path of a report: it ends in .html, its folder exists, and it is not inside the images.

    Raises:
        RunError: The path is invalid.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"--out {out} does not end in .html; give the path of a report, such as runs.html")
    if out.is_dir():
        raise RunError(f"--out {out} is a folder; give the path of a file, such as {out / 'runs.html'}")
    if not out.parent.is_dir():
        raise RunError(f"--out {out}: the folder {out.parent} does not exist; create it, or give another path")
    for test_set in compared.test_sets:
        refuse_output_in_images(out, test_set.root)


def collect_runs_content(compared: ComparedRuns) -> RunsContent:
    """Return everything that the report of several runs shows."""
    return RunsContent(
        title=f"{len(compared.runs)} runs: {', '.join(test_set.name for test_set in compared.test_sets)}",
        verdict=_verdict(compared),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=tuple(f"{note[:1].upper()}{note[1:]}." for note in compared.notes),
        compared=_shown(compared),
        families=published_points(),
        files=_folders(compared),
    )


def _shown(compared: ComparedRuns) -> ComparedRuns:
    """Return the comparison with its paths as reports show them."""
    return compared.replace(
        test_sets=tuple(test_set.replace(root=shown_path(test_set.root)) for test_set in compared.test_sets),
        runs=tuple(run.replace(folder=shown_path(run.folder)) for run in compared.runs),
    )


def _folders(compared: ComparedRuns) -> tuple[NamedValue, ...]:
    """Return the folders of the runs; none if they are already the names of the runs."""
    folders = tuple(NamedValue(name=run.name, value=shown_path(run.folder)) for run in compared.runs)
    return folders if any(row.name != row.value for row in folders) else ()


def _verdict(compared: ComparedRuns) -> str:
    if len(compared.test_sets) > 1:
        return (
            f"{len(compared.runs)} runs on {len(compared.test_sets)} different test sets: they cannot be ranked "
            "together."
        )
    ranked = sorted(compared.runs, key=lambda run: -run.top1)
    best, others = ranked[0], ranked[1:]
    tied = [run for run in others if run.behind is not None and not run.behind.significant]
    lead = f"{best.name} is the most accurate, {percent(best.top1)} with {si(best.macs)} MACs"
    if not others:
        return f"{lead}."
    if not tied:
        return f"{lead}; it is significantly better than {'the other' if len(others) == 1 else 'all others'}."
    cheapest = min((best, *tied), key=lambda run: (run.macs, -run.top1))
    cheaper = (
        f"; the cheapest of these is {cheapest.name} with {si(cheapest.macs)} MACs" if cheapest is not best else ""
    )
    if len(tied) > 3:
        return f"{lead}; {len(tied)} others are tied with it{cheaper}."
    return f"{lead}; tied with it: {', '.join(run.name for run in tied)}{cheaper}."
