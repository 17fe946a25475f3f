"""Commands of the method: comparing the ways to scale, searching the coefficients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.networks import DEFAULT_LAW, Json, LawOption
from triscale.cli.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.families.find import find_law, find_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network

if TYPE_CHECKING:
    from triscale.scaling.law import Law
    from triscale.search.compare import Comparison
    from triscale.search.published import Checked
    from triscale.search.trial import Found

MOST_STANDINGS = 12


def compare(
    *,
    baseline: str | None = None,
    times: float = 4.0,
    phi: float = 0.0,
    law: LawOption = DEFAULT_LAW,
    published: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Compare depth only, width only, resolution only and compound scaling at equal cost.

    Parameters
    ----------
    baseline
        A published name, a JSON file or package.module:function: show the networks that would be compared.
    times
        How many times the baseline's MACs each may cost.
    phi
        Begin at this phi of the law; a negative one makes all networks smaller.
    law
        alpha,beta,gamma or a JSON file, for the compound way.
    published
        Print Tables 2, 3 and 7 of the paper with exact costs; needs no training.
    json
        Print machine-readable JSON.
    """
    if published == (baseline is not None):
        raise UserError("give either --published or --baseline NAME; for example: triscale compare --published")
    if published:
        from triscale.search.published import check_published

        rows = check_published()
        if json:
            print_json(rows)
        else:
            _print_published(rows)
        return
    assert baseline is not None
    comparison = _compare(find_network(baseline), times, find_law(law), phi)
    if json:
        print_json(comparison)
    else:
        _print_comparison(comparison)


def _compare(baseline: AnyNetwork, times: float, law: Law, phi: float) -> Comparison:
    from triscale.search.compare import equal_cost

    if isinstance(baseline, CustomNetwork):
        from triscale.jobs.networks import fit_any, totals_of

        return equal_cost(baseline, times, law=law, phi=phi, fit=fit_any, count=totals_of)
    return equal_cost(baseline, times, law=law, phi=phi)


def _print_published(rows: tuple[Checked, ...]) -> None:
    from triscale.search.published import MARGIN, PAPER

    table(
        ("network", "top-1", "top-5", "params", "exact", "MACs", "exact"),
        [
            (
                checked.row.label,
                f"{checked.row.top1:.1f}",
                f"{checked.row.top5:.1f}",
                checked.row.params or "",
                f"{checked.params:,}",
                checked.row.macs,
                f"{checked.macs:,}",
            )
            for checked in rows
            if checked.row.table == 2
        ],
        title="Table 2: EfficientNet on ImageNet",
    )
    for number, title in (
        (3, "Table 3: MobileNets and ResNet, scaled"),
        (7, "Table 7: EfficientNet-B0, scaled"),
    ):
        console.print()
        table(
            ("network", "px", "top-1", "MACs", "exact", "off by", ""),
            [
                (
                    checked.row.label + (" (assumed)" if checked.row.assumed else ""),
                    str(checked.pixels),
                    f"{checked.row.top1:.1f}",
                    checked.row.macs,
                    f"{checked.macs:,}",
                    f"{checked.excess:+.1%}",
                    "" if checked.possible else "*",
                )
                for checked in rows
                if checked.row.table == number
            ],
            title=title,
        )
    console.print(
        f"\nThe paper's figures ({PAPER}), and what the networks of its coefficients cost exactly. MACs: "
        "multiply-accumulates for one image, no bias, no batch norm, which the paper calls FLOPS. (assumed): the paper "
        f"states no coefficients; these give the cost. *: the coefficients cannot give this cost, by more than "
        f"{MARGIN:.0%} beyond its rounding. ResNet-50's costs at d=4 and w=2 look exchanged.",
        style="dim",
    )


def _print_comparison(comparison: Comparison) -> None:
    table(
        ("scaled by", "blocks", "width", "px", "params", "MACs", "of asked", "ratio"),
        [
            (
                contender.way,
                _blocks(contender.network, contender.realized.depth),
                f"x{contender.realized.width:.3g}",
                str(contender.network.resolution),
                f"{contender.params:,}",
                f"{contender.macs.achieved:,}",
                "" if contender.way == "baseline" else f"{contender.macs.used:.1%}",
                f"{contender.macs.achieved / comparison.contenders[0].macs.achieved:.3f}",
            )
            for contender in comparison.contenders
        ],
        title=f"{comparison.baseline.name}, {comparison.times:g} times its MACs; compound: {comparison.law}",
    )
    console.print(
        f"The cheapest of the four stays {comparison.unevenness:.1%} behind the dearest; none is above what was asked.",
        style="dim",
    )


def _blocks(network: AnyNetwork, depth: float) -> str:
    return str(network.num_blocks) if isinstance(network, Network) else f"x{depth:.3g}"


def coefficients(
    images: str,
    /,
    *,
    baseline: str,
    out: Path,
    method: Literal["grid", "halving", "response"] = "response",
    epochs: int = 5,
    seeds: tuple[int, ...] = (0, 1, 2),
    share: float = 1.0,
    phi: float = 1.0,
    target: float = 2.0,
    tolerance: float = 0.05,
    step: float = 0.05,
    number: int | None = None,
    recipe: str = "small",
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Find alpha, beta and gamma for a baseline and images: STEP 1 of the paper.

    Candidates all cost the same in fact, not by the nominal product. Each is trained briefly and scored on images held
    out of training. The same command goes on where it stopped.

    Parameters
    ----------
    images
        A folder of class folders, tar shards, a saved data set, a .csv or .parquet table, an address or a named set.
    baseline
        A published name, a JSON file or package.module:function.
    out
        Folder of the search; its law.json can be given to --law.
    method
        grid: all candidates to the end; halving: all briefly, the best longer; response: a curve through small ones.
    epochs
        Epochs of the proxy training.
    seeds
        Seeds of each training.
    share
        Share of the training images of each class to train on.
    phi
        Candidates are the baseline scaled at this phi.
    target
        How many times the MACs a step of phi costs.
    tolerance
        How far from the target a candidate may be, as a share of it.
    step
        Step of the grid in each coefficient.
    number
        At most so many candidates, spread over all.
    recipe
        A recipe's name, or a JSON file of one.
    settings
        Any field of the recipe, as field=value.
    workers
        Processes that train at a time.
    threads
        Threads of each.
    device
        auto, cpu or cuda.
    json
        Print machine-readable JSON.
    """
    from triscale.cli.terminal import watcher
    from triscale.cli.training import root_of
    from triscale.jobs.coefficients import Search, find_coefficients
    from triscale.jobs.train import choose_device
    from triscale.jobs.watch import stop_flag
    from triscale.search.grid import Grid
    from triscale.training.changes import changed, find_recipe

    grid = {"phi": phi, "target": target, "tolerance": tolerance, "step": step, "number": number}
    search = Search.parse(
        {
            "images": root_of(images),
            "baseline": find_network(baseline),
            "grid": Grid.parse(grid, "the grid asked for"),
            "method": method,
            "recipe": changed(find_recipe(recipe), (*settings, f"epochs={epochs}")),
            "seeds": seeds,
            "share": share,
        },
        "the search asked for",
    )
    if workers < 1 or threads < 1:
        raise UserError(f"--workers {workers} and --threads {threads} must be 1 or more")
    with watcher() as watching, stop_flag() as should_stop:
        found = find_coefficients(
            search,
            out,
            watching,
            device=choose_device(device),
            workers=workers,
            threads=threads,
            should_stop=should_stop,
        )
    if json:
        print_json(found)
    else:
        _print_found(found, out)


def _print_found(found: Found, out: Path) -> None:
    console.print(f"{found.baseline} by {found.method}: {len(found.trials)} trainings", markup=False)
    table(
        ("alpha", "beta", "gamma", "cost", "accuracy", "error", ""),
        [
            (
                f"{standing.law.alpha:g}",
                f"{standing.law.beta:g}",
                f"{standing.law.gamma:g}",
                f"x{standing.ratio:.3f}",
                f"{standing.accuracy:.2%}",
                f"{standing.error:.2%}",
                "tied" if standing.tied else "",
            )
            for standing in found.standings[:MOST_STANDINGS]
        ],
        left=0,
    )
    console.print(f"\nlaw {found.law}", style="bold")
    if found.interval is not None:
        console.print(f"bootstrap interval {found.interval.low} to {found.interval.high}", markup=False)
    for sentence in found.cannot_tell:
        console.print(f"not told: {sentence}", markup=False)
    console.print(f"written to {out / 'law.json'} and {out / 'coefficients.json'}", markup=False, soft_wrap=True)
