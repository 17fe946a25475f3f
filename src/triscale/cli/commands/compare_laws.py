"""``compare --laws`` without images: the networks of several laws at equal cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.law_options import LawFlags, named_laws
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import RunError, UserError
from triscale.network.cost import si
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import load_predictor
from triscale.record import write_atomic

if TYPE_CHECKING:
    from triscale.search.compare.law_table import CostRow, LawComparison

RECORD = "laws.json"


def compare_networks_of_laws(
    baseline: AnyNetwork,
    laws: tuple[str, ...],
    times: str | None,
    rounding: LawFlags,
    profile: Path | None,
    out: Path | None,
    *,
    json: bool,
) -> None:
    """Scale a baseline by each law to the same costs, print the table, and write it with a figure to ``out``."""
    from triscale.progress_bars import error_console
    from triscale.search.compare.law_table import RATIOS, compare_laws, read_ratios

    if isinstance(baseline, CustomNetwork):
        raise UserError(
            f"--laws compares published networks and network files, not custom models such as {baseline.name}; use "
            "triscale scale with each --law"
        )
    chosen = named_laws(laws, rounding)
    ratios = RATIOS if times is None else read_ratios(times)
    predictor = None if profile is None else load_predictor(profile)
    if out is not None and out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise RunError(f"{out} is not empty and holds no comparison of laws; give a new folder with --out")
    result = compare_laws(
        baseline, chosen, ratios, predictor, report=lambda text: error_console.print(text, markup=False, style="dim")
    )
    if out is not None:
        _write(result, out)
    if json:
        print_json(result)
        return
    _print(result)
    if out is not None:
        console.print(f"written to {out}", markup=False, soft_wrap=True)


def _write(result: LawComparison, out: Path) -> None:
    from triscale.report.comparison.law_figures import laws_at_equal_cost
    from triscale.report.draw.files import figure_files

    for name, content in figure_files(laws_at_equal_cost(result)).items():
        write_atomic(out / name, content)
    result.save(out / RECORD)


def _print(result: LawComparison) -> None:
    latency = result.predictor is not None
    measured = ("ms", "cost") if latency else ("cost",)
    columns = ("law", "px", "blocks", "width", "params", "activ.", "inference", "training", *measured)
    base = result.baseline
    table(columns, [_cells(base, base.macs, latency=latency)])
    for level in result.levels:
        console.print()
        table(
            columns,
            [_cells(row, level.limit, latency=latency) for row in level.rows],
            title=f"{level.times:.4g} times: {si(level.limit)} MACs",
        )
        for row in level.rows:
            if row.note:
                console.print(f"{row.law}: {row.note}", style="dim", markup=False)
        for law, reason in level.unreachable:
            console.print(f"{law}: {reason}", style="dim", markup=False)
    console.print(
        "\nwidth: mean over stages, relative to the baseline; inference: peak memory with one image; training: "
        "estimated memory of a step with 32 images, without Python and torch; cost: MACs relative to the limit "
        "of the table.",
        style="dim",
    )
    if result.predictor is not None:
        console.print(f"ms: predicted for {result.predictor}", style="dim", markup=False)


def _cells(row: CostRow, limit: int, *, latency: bool) -> tuple[str, ...]:
    return (
        row.law or row.network.name,
        str(row.network.size),
        str(row.network.num_blocks),
        f"x{row.realized.width:.3g}",
        si(row.params),
        si(row.activations),
        f"{si(row.inference_bytes)}B",
        f"{si(row.training_bytes)}B",
        *((f"{row.latency_ms:.3g}",) if latency else ()),
        f"{row.macs / limit:.1%}",
    )
