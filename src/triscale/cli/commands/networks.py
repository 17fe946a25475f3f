"""The commands ``list`` and ``scale``; they need no torch, except for a custom model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.amounts import multiplier_of, share_of
from triscale.cli.support.latency import predict_latency, print_latency
from triscale.cli.support.law_options import LAW_DEFAULTS, LawFlags
from triscale.cli.support.options import (
    Json,
    LiteOption,
    MarginOption,
    OptionalOut,
    ProfileOption,
    choose_network,
    cost_of_any,
    with_channels,
    with_classes,
)
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.families import FAMILIES
from triscale.network.arena import interpreter_bytes
from triscale.network.cost import Cost, cost, si
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor, load_predictor
from triscale.network.spec import Network
from triscale.scaling.apply import network_at
from triscale.scaling.apply import scale as scale_network
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.law import Scale
from triscale.scaling.piecewise import AnyLaw
from triscale.scaling.rounding import RELEASED
from triscale.scaling.slack import why_slack

if TYPE_CHECKING:
    from triscale.families.census import CensusEntry


def list_(*, census: Annotated[bool, Parameter(negative="")] = False, json: Json = False) -> None:
    """List the published networks with their exact costs.

    Parameters
    ----------
    census
        Compare the costs with the published figures of each network instead.
    """
    if census:
        _print_census(json=json)
        return
    members = [(family, member, cost(member.network)) for family, group in FAMILIES.items() for member in group]
    if json:
        print_json(
            {
                member.name: {"family": family, "resolution": member.resolution, "top1": member.top1}
                | figures.model_dump(exclude={"stages"})
                for family, member, figures in members
            }
        )
        return
    table(
        ("network", "px", "params", "MACs", "activations", "top-1 %"),
        [
            (
                member.name,
                str(member.resolution),
                si(figures.params),
                si(figures.macs),
                si(figures.activations),
                "" if member.top1 is None else f"{member.top1:.1f}",
            )
            for _, member, figures in members
        ],
    )
    console.print(
        "MACs: multiply-accumulates for one image, without bias and batch norm. top-1: ImageNet, as published.",
        style="dim",
    )


def _print_census(*, json: bool) -> None:
    from triscale.families.census import census, census_table

    entries, sources = census(), census_table().sources
    agreeing = sum(entry.agrees for entry in entries)
    networks = len({(entry.row.name, entry.row.resolution) for entry in entries})
    if json:
        print_json(
            {
                "sources": {name: source.title for name, source in sources.items()},
                "networks": [entry.row.model_dump() | _both(entry) for entry in entries],
            }
        )
        return
    table(
        ("network", "px", "params", "published", "MACs", "counted", "published", "agree", "source"),
        [
            (
                entry.row.name,
                str(entry.row.resolution),
                str(entry.params),
                entry.row.params,
                str(entry.macs),
                "" if entry.counted == entry.macs else si(entry.counted),
                entry.row.macs,
                "yes" if entry.agrees else "no",
                entry.row.source,
            )
            for entry in entries
        ],
    )
    for entry in entries:
        if entry.row.differs:
            console.print(f"{entry.row.name} ({entry.row.source}): {entry.row.differs}", markup=False, highlight=False)
    for name, source in sources.items():
        console.print(f"{name}: {source.title}", style="dim", markup=False, highlight=False)
    console.print(
        f"{networks} networks, {agreeing} of {len(entries)} rows agree: both figures round to the published digits. "
        "counted: MACs by the source's convention, if it is another, with two operations for each normalized value and "
        "one for each pooled.",
        style="dim",
    )


def _both(entry: CensusEntry) -> dict[str, int | str | bool]:
    """Return our figures and the published ones, under names that tell them apart."""
    return {
        "params": entry.params,
        "published_params": entry.row.params,
        "macs": entry.macs,
        "counted_macs": entry.counted,
        "published_macs": entry.row.macs,
        "agrees": entry.agrees,
    }


def scale(
    network: str,
    /,
    *,
    budget: Annotated[list[str] | None, Parameter(negative="")] = None,
    phi: float | None = None,
    depth: float | None = None,
    width: float | None = None,
    resolution: float | None = None,
    law: LawFlags = LAW_DEFAULTS,
    classes: int | None = None,
    channels: int | None = None,
    lite: LiteOption = False,
    profile: ProfileOption = None,
    margin: MarginOption = "0%",
    verify: Annotated[bool, Parameter(negative="")] = False,
    out: OptionalOut = None,
    json: Json = False,
) -> None:
    """Scale a network to a budget, by a law and phi, or by given multipliers.

    Parameters
    ----------
    network
        A published name, a JSON file or package.module:function.
    budget
        Limits such as 400M (MACs), "5M params", "8M activations", 20MB (weights), "30MB memory" (of inference), "4GB
        training memory", "256KB ram" and "1MB flash" (int8 on a microcontroller) or, with a profile, 20ms; the result
        meets all of them. Or a kind of device: pi, phone, browser, tablet, laptop or server.
    phi
        Compound coefficient of the law; may be fractional or negative.
    depth
        Depth multiplier.
    width
        Width multiplier.
    resolution
        Resolution multiplier; the result is rounded to a suitable resolution.
    classes
        Number of classes; by default that of the network.
    channels
        Number of channels of the images: 1 for gray; by default that of the network.
    verify
        Also measure the scaled network on this machine, in the engine of the profile.
    out
        File to write the scaled network to, as JSON.
    """
    baseline = with_channels(with_classes(choose_network(network, lite=lite), classes), channels)
    single = any(value is not None for value in (depth, width, resolution))
    if (budget is not None) + (phi is not None) + single != 1:
        raise UserError(
            "give exactly one of --budget, --phi, or some of --depth, --width and --resolution; "
            f"for example: triscale scale {network} --phi 1"
        )
    if verify and profile is None:
        raise UserError(
            "--verify measures with the engine of a profile; give a profile with --profile, or use triscale measure"
        )
    predictor = None if profile is None else load_predictor(profile)
    scaling_law = law.chosen()
    fit: Fit | None = None
    limits: Budget | None = None
    if budget is not None:
        limits = Budget.of(*budget).with_margin(share_of("--margin", margin))
        fit = _fit(baseline, scaling_law, limits, predictor)
        scaled: AnyNetwork = fit.network
    elif phi is not None:
        scaled = network_at(baseline, scaling_law, phi)
    else:
        given = {"depth": depth, "width": width, "resolution": resolution}
        multipliers = {name: multiplier_of(f"--{name}", value) for name, value in given.items() if value is not None}
        scaled = scale_network(baseline, Scale(**multipliers), law.changed(RELEASED))
    if out is not None:
        scaled.save(out)
    before, after = cost_of_any(baseline), cost_of_any(scaled)
    latency = None if predictor is None else predict_latency(scaled, predictor, verify=verify)
    if json:
        print_json(
            {
                "network": scaled.model_dump(mode="json"),
                "cost": after.model_dump(mode="json", exclude={"stages"}),
                "fit": None if fit is None else fit.model_dump(mode="json", exclude={"network"}),
            }
            | ({} if latency is None else {"latency": latency.model_dump(mode="json")})
        )
        return
    _print_scaled(baseline, scaled, before, after)
    _print_note(baseline)
    if fit is not None and limits is not None:
        _print_fit(baseline, fit, limits, predictor)
    if latency is not None:
        print_latency(latency)
    if out is not None:
        console.print(f"written to {out}", highlight=False, markup=False)


def _print_scaled(baseline: AnyNetwork, scaled: AnyNetwork, before: Cost, after: Cost) -> None:
    rows = [("resolution", str(baseline.size), str(scaled.size), scaled.resolution / baseline.resolution)]
    if isinstance(baseline, Network) and isinstance(scaled, Network):
        rows.append(
            ("blocks", str(baseline.num_blocks), str(scaled.num_blocks), scaled.num_blocks / baseline.num_blocks)
        )
        widths = [" ".join(str(stage.width) for stage in network.stages) for network in (baseline, scaled)]
        console.print(f"widths  {widths[0]}\n     -> {widths[1]}")
    for name, old, new in (
        ("params", before.params, after.params),
        ("MACs", before.macs, after.macs),
        ("activations", before.activations, after.activations),
    ):
        rows.append((name, si(old), si(new), new / old))
    table(
        ("", baseline.name, scaled.name if scaled.name != baseline.name else "scaled", "ratio"),
        [(name, old, new, f"{ratio:.3g}") for name, old, new, ratio in rows],
    )


def _print_note(baseline: AnyNetwork) -> None:
    if isinstance(baseline, CustomNetwork):
        from triscale.jobs.core.networks import note_on

        if (note := note_on(baseline)) is not None:
            console.print(f"note: {note}", markup=False, soft_wrap=True)


def _print_fit(baseline: AnyNetwork, fit: Fit, budget: Budget, predictor: Predictor | None) -> None:
    console.print(f"phi {fit.phi:g} of the law {fit.law}: {fit.scale}", markup=False)
    for limit in fit.limits:
        bound = "  (binding)" if limit.name == fit.binding and len(fit.limits) > 1 else ""
        console.print(f"budget: {limit}{bound}", markup=False)
    if budget.ram is not None and isinstance(fit.network, Network):
        console.print(
            "RAM is that of the int8 network's maps. TensorFlow Lite Micro's interpreter needs up to "
            f"{si(interpreter_bytes(fit.network))}B more for its records; the program's stack and code are not counted",
            markup=False,
        )
    if fit.measured is not None:
        console.print(f"the latency is {fit.measured}", markup=False)
    if fit.steps:
        console.print(f"extra steps that use up the remaining budget: {', '.join(fit.steps)}", markup=False)
    if isinstance(baseline, Network) and (reason := why_slack(baseline, fit, budget, predictor)):
        console.print(f"the rest stays unused: {reason}", markup=False)


def _fit(network: AnyNetwork, law: AnyLaw, budget: Budget, predictor: Predictor | None) -> Fit:
    if isinstance(network, CustomNetwork):
        from triscale.jobs.core.networks import fit_any

        return fit_any(network, law, budget, predictor)
    return fit_budget(network, law, budget, predictor)
