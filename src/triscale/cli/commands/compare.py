"""The command ``compare``: scaling methods at equal cost, as published, as networks, or trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.commands.compare_laws import compare_networks_of_laws
from triscale.cli.support.law_options import LAW_DEFAULTS, LawFlags, named_laws
from triscale.cli.support.options import (
    STUDY_DEFAULTS,
    ImagesArgument,
    Items,
    Json,
    LiteOption,
    OptionalOut,
    ProfileOption,
    StudyFlags,
    choose_network,
)
from triscale.cli.support.study_options import (
    print_study_estimate,
    print_study_files,
    study_execution,
    study_request_fields,
)
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import UserError
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network
from triscale.scaling.apply import network_at

if TYPE_CHECKING:
    from triscale.scaling.piecewise import AnyLaw
    from triscale.search.coefficients.published_coefficients import CheckedRow
    from triscale.search.compare.contenders import Comparison
    from triscale.search.compare.results import ComparisonResult


def compare(
    images: ImagesArgument | None = None,
    /,
    *,
    baseline: str | None = None,
    out: OptionalOut = None,
    times: str | None = None,
    phi: float = 0.0,
    law: LawFlags = LAW_DEFAULTS,
    laws: Items = (),
    profile: ProfileOption = None,
    lite: LiteOption = False,
    published: Annotated[bool, Parameter(negative="")] = False,
    options: StudyFlags = STUDY_DEFAULTS,
    json: Json = False,
) -> None:
    """Compare depth only, width only, resolution only and compound scaling, or several laws, at equal cost.

    With images, the networks are trained with each seed and tested; the same command resumes an interrupted comparison.
    Without images, the scaled networks are shown; with --laws at costs from 1/8 to 90 times the baseline's.

    Parameters
    ----------
    baseline
        A published name, a JSON file or package.module:function.
    out
        Folder of the comparison, with its report, records and runs.
    times
        Budget of each scaled network, as a multiple of the baseline's MACs; by default 4. With --laws and no images,
        several: 1/8,1/2,4.
    phi
        Scale the baseline to this phi of the law first; a negative value makes all networks smaller.
    laws
        Named laws or files of laws to compare, such as paper,dwr,lacs-gpu, or all, instead of --law.
    published
        Print Tables 2, 3 and 7 of the paper with exact costs, without training.
    """
    if published == (baseline is not None):
        raise UserError("give either --published or --baseline NAME; for example: triscale compare --published")
    if published:
        _compare_published(json)
        return
    assert baseline is not None
    if laws and images is None:
        start = choose_network(baseline, lite=lite)
        start = start if phi == 0 else network_at(start, law.chosen(), phi)
        compare_networks_of_laws(start, laws, times, law, profile, out, json=json)
        return
    if profile is not None:
        raise UserError("--profile predicts latency for --laws without images; leave it out, or add --laws paper,dwr")
    ratio = _single(times)
    if images is None:
        comparison = _compare(choose_network(baseline, lite=lite), ratio, law.chosen(), phi)
        if json:
            print_json(comparison)
        else:
            _print_comparison(comparison)
        return
    if out is None:
        raise UserError("a comparison with images requires a folder; give --out DIR")
    chosen = named_laws(laws, law) if laws else None
    _train(images, choose_network(baseline, lite=lite), out, ratio, law, chosen, phi, options, json)


def _single(times: str | None) -> float:
    """Return the one cost of a comparison with four methods."""
    try:
        return 4.0 if times is None else float(times)
    except ValueError:
        raise UserError(f'--times "{times}" is not a number; give one such as 4') from None


def _compare_published(json: bool) -> None:
    from triscale.search.coefficients.published_coefficients import check_published

    rows = check_published()
    if json:
        print_json(rows)
    else:
        _print_published(rows)


def _train(
    images: str,
    baseline: AnyNetwork,
    out: Path,
    times: float,
    law: LawFlags,
    laws: dict[str, AnyLaw] | None,
    phi: float,
    options: StudyFlags,
    json: bool,
) -> None:
    from triscale.jobs.search import compare as compare_scaling
    from triscale.jobs.studies.estimate import estimate_study
    from triscale.jobs.studies.requests import ComparisonRequest

    request = ComparisonRequest.parse(
        study_request_fields(images, baseline, options)
        | {"times": times, "law": law.chosen(), "laws": laws, "phi": phi},
        "the comparison options",
    )
    with study_execution(options) as (context, study_options):
        if options.dry_run:
            print_study_estimate(estimate_study(request, context), json=json)
            return
        compared = compare_scaling(request, out, context, study_options)
    if json:
        print_json(compared)
    else:
        print_compared(compared, out)


def _compare(baseline: AnyNetwork, times: float, law: AnyLaw, phi: float) -> Comparison:
    from triscale.search.compare.contenders import equal_cost

    if isinstance(baseline, CustomNetwork):
        from triscale.jobs.core.networks import count_of, fit_any

        return equal_cost(baseline, times, law=law, phi=phi, fit=fit_any, count=count_of)
    return equal_cost(baseline, times, law=law, phi=phi)


def _print_published(rows: tuple[CheckedRow, ...]) -> None:
    from triscale.search.coefficients.published_coefficients import MARGIN, PAPER

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
        f"\nThe figures of the paper ({PAPER}), and the exact costs of networks with its coefficients. MACs: "
        "multiply-accumulates for one image, without bias and batch norm; the paper calls them FLOPS. (assumed): the "
        f"paper states no coefficients; these reproduce the cost. *: the exact cost differs from the published cost by "
        f"more than {MARGIN:.0%} beyond rounding. The costs of ResNet-50 at d=4 and w=2 appear to be swapped.",
        style="dim",
    )


def _print_comparison(comparison: Comparison) -> None:
    table(
        ("scaled by", "blocks", "width", "px", "params", "MACs", "of budget", "ratio"),
        [
            (
                contender.way,
                _blocks(contender.network, contender.realized.depth),
                f"x{contender.realized.width:.3g}",
                str(contender.network.size),
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
        f"The cheapest of the networks has {comparison.unevenness:.1%} fewer MACs than the most expensive one; "
        "all are within the budget.",
        style="dim",
    )


def _blocks(network: AnyNetwork, depth: float) -> str:
    return str(network.num_blocks) if isinstance(network, Network) else f"x{depth:.3g}"


def print_compared(compared: ComparisonResult, out: Path) -> None:
    """Print the result of a comparison."""
    from triscale.search.compare.results import verdict

    table(
        ("scaled by", "MACs", "params", "px", "accuracy", "95% interval", "gain", ""),
        [
            (
                outcome.way,
                f"{contender.macs.achieved:,}",
                f"{contender.params:,}",
                str(contender.network.size),
                f"{outcome.accuracy:.2%}",
                f"{100 * outcome.low:.1f} to {100 * outcome.high:.1f}",
                f"{100 * outcome.gain:+.2f}",
                compared.standing(outcome),
            )
            for outcome, contender in zip(compared.outcomes, compared.comparison.contenders, strict=True)
        ],
        title=f"{compared.comparison.baseline.name} on {compared.count} test images, "
        f"{counted(len(compared.proxy.seeds), 'seed')}, {counted(compared.proxy.epochs, 'epoch')}",
    )
    summary = verdict(compared)
    console.print(f"\n{summary[0].upper()}{summary[1:]}.", style="bold", markup=False)
    for sentence in compared.limitations:
        console.print(f"limitation: {sentence}", markup=False)
    print_study_files(out)
