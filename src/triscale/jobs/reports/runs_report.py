"""From several Runs side by side to their page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from triscale.data.sources.local import is_url
from triscale.errors import RunError
from triscale.jobs.reports.run_report import percent, published_points
from triscale.network.cost import si
from triscale.record import write_atomic
from triscale.report.content import NamedValue
from triscale.report.render import render_runs
from triscale.report.runs.runs_content import RunsContent
from triscale.results.run_comparison import ComparedRuns


def write_runs_report(compared: ComparedRuns, out: Path) -> Path:
    """Write the page of several Runs, and return its path.

    Raises:
        RunError: no file that a page can be written to, or one among the images.
    """
    check_page(compared, out)
    write_atomic(out, render_runs(collect_runs_content(compared)).encode("utf-8", errors="replace"))
    return out


def check_page(compared: ComparedRuns, out: Path) -> None:
    """Make sure that a page may be written to a file: it ends in .html, its folder is there and not among the images.

    Raises:
        RunError: it may not.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"--out {out} is no name for a page; give one that ends in .html, such as runs.html")
    if out.is_dir():
        raise RunError(f"--out {out} is a folder; give the name of a file, such as {out / 'runs.html'}")
    if not out.parent.is_dir():
        raise RunError(f"--out {out}: there is no folder {out.parent}; make it, or give another file")
    for test_set in compared.test_sets:
        if not is_url(test_set.root) and out.resolve().is_relative_to(Path(test_set.root).resolve()):
            raise RunError(f"--out {out} lies within the images in {test_set.root}, where nothing is written; give "
                           "another file")  # fmt: skip


def collect_runs_content(compared: ComparedRuns) -> RunsContent:
    """Return everything that the report of several runs shows."""
    return RunsContent(
        title=f"{len(compared.runs)} Runs: {', '.join(test_set.name for test_set in compared.test_sets)}",
        verdict=_verdict(compared),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=tuple(f"{note[:1].upper()}{note[1:]}." for note in compared.notes),
        compared=compared,
        families=published_points(),
        files=tuple(NamedValue(name=run.name, value=str(Path(run.folder).resolve())) for run in compared.runs),
    )


def _verdict(compared: ComparedRuns) -> str:
    if len(compared.test_sets) > 1:
        return (
            f"{len(compared.runs)} Runs, judged by {len(compared.test_sets)} different sets of test images: "
            "no one ranking of all."
        )
    ranked = sorted(compared.runs, key=lambda run: -run.top1)
    best, others = ranked[0], ranked[1:]
    alike = [run for run in others if run.behind is not None and not run.behind.told_apart]
    told = f"{best.name} is the most accurate, {percent(best.top1)} with {si(best.macs)} MACs"
    if not others:
        return f"{told}."
    if not alike:
        return f"{told}; the test images tell it from {'the other' if len(others) == 1 else 'all others'}."
    cheapest = min((best, *alike), key=lambda run: (run.macs, -run.top1))
    cheaper = f", of which {cheapest.name} costs least, {si(cheapest.macs)} MACs" if cheapest is not best else ""
    if len(alike) > 3:
        return f"{told}; the test images do not tell {len(alike)} others from it{cheaper}."
    return f"{told}; the test images do not tell it from {', '.join(run.name for run in alike)}{cheaper}."
