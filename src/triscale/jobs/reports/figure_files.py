"""Write the report of a study with its figures as files."""

from __future__ import annotations

from pathlib import Path

from triscale.record import write_atomic
from triscale.report.content import ReportContent
from triscale.report.draw.files import figure_files
from triscale.report.render import FIGURES_FOLDER, render

REPORT_FILE = "report.html"


def write_with_figures(content: ReportContent, folder: Path) -> Path:
    """Write the report of a study, and each of its figures as SVG and PDF with its data as CSV; return its path.

    Args:
        content: The records to show.
        folder: Folder of the study; the figures are written to ``figures`` in it.
    """
    report = render(content)
    for picture in report.pictures:
        for name, file in figure_files(picture).items():
            write_atomic(folder / FIGURES_FOLDER / name, file)
    write_atomic(folder / REPORT_FILE, report.html.encode("utf-8", errors="replace"))
    return folder / REPORT_FILE
