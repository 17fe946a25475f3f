"""The command ``family``; it needs no torch, except for a custom model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from triscale.cli.support.law_options import LAW_DEFAULTS, LawFlags
from triscale.cli.support.options import (
    Json,
    LiteOption,
    OptionalOut,
    choose_network,
    cost_of_any,
    with_classes,
)
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import RunError
from triscale.network.cost import si
from triscale.network.spec import Network
from triscale.record import write_atomic
from triscale.scaling.family import Family, FamilyMember, make_family, read_phis


def family(
    *,
    baseline: str,
    law: LawFlags = LAW_DEFAULTS,
    phis: Annotated[str, Parameter(allow_leading_hyphen=True)] = "0..4",
    classes: int | None = None,
    lite: LiteOption = False,
    out: OptionalOut = None,
    json: Json = False,
) -> None:
    """Scale a baseline to a family: a network for each phi, their costs and a figure.

    Parameters
    ----------
    baseline
        A published name, a JSON file such as the network.json of a search, or package.module:function.
    phis
        Values of phi: numbers separated by commas, or a range such as 0..4 or 0..2:0.5.
    classes
        Number of classes; by default that of the baseline.
    out
        Folder for the networks (NAME.json), family.json, family.csv and family.svg.
    """
    network = with_classes(choose_network(baseline, lite=lite), classes)
    result = make_family(network, law.chosen(), read_phis(phis), cost_of_any)
    if out is not None:
        _write(result, out)
    if json:
        print_json(result)
        return
    table(
        ("network", "phi", "px", "blocks", "params", "MACs", "ratio", "nominal", "float32"),
        [
            (
                member.network.name,
                f"{member.phi:g}",
                str(member.network.size),
                _blocks(member),
                si(member.params),
                si(member.macs),
                f"x{member.ratio:.3g}",
                f"x{member.nominal:.3g}",
                f"{si(member.size_bytes)}B",
            )
            for member in result.members
        ],
    )
    console.print(
        f"law {result.law}; nominal: ratio of MACs by the formula (alpha x beta^2 x gamma^2)^phi", style="dim"
    )
    if out is not None:
        console.print(f"written to {out}", markup=False, soft_wrap=True)


def _write(result: Family, out: Path) -> None:
    """Write networks, table and figure; refuse a folder that holds another family or other files."""
    from triscale.report.draw.files import standalone
    from triscale.report.run.family_figures import FamilyTower
    from triscale.report.run.family_figures import family as draw_family

    record = out / "family.json"
    if out.is_dir() and any(out.iterdir()) and not record.is_file():
        raise RunError(f"{out} is not empty and holds no family; give a new folder with --out")
    if record.is_file() and Family.load(record) != result:
        raise RunError(f"{out} holds another family; give a new folder with --out")
    for member in result.members:
        member.network.save(out / f"{member.network.name}.json")
    columns = ("network", "phi", "resolution", "params", "macs", "activations", "size_bytes", "ratio", "nominal")
    rows = [
        (
            member.network.name,
            member.phi,
            member.network.resolution,
            member.params,
            member.macs,
            member.activations,
            member.size_bytes,
            member.ratio,
            member.nominal,
        )
        for member in result.members
    ]
    write_atomic(out / "family.csv", "".join(",".join(map(str, row)) + "\n" for row in (columns, *rows)).encode())
    towers = [
        FamilyTower(
            phi=member.phi,
            macs=member.macs,
            params=member.params,
            nominal_macs=member.nominal * member.macs / member.ratio,
            pixels=member.network.resolution,
            stages=tuple((stage.width, stage.repeats) for stage in member.network.stages)
            if isinstance(member.network, Network)
            else (),
        )
        for member in result.members
    ]
    write_atomic(out / "family.svg", standalone(draw_family(result.baseline, str(result.law), towers)).encode())
    result.save(record)


def _blocks(member: FamilyMember) -> str:
    return str(member.network.num_blocks) if isinstance(member.network, Network) else ""
