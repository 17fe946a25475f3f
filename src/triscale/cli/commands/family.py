"""The command that writes a family; it needs no torch, but for a custom model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from triscale.cli.support.options import DEFAULT_LAW, Json, LawOption, LiteOption, choose_network, cost_of_any
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import RunError
from triscale.families.find import find_law
from triscale.network.cost import si
from triscale.network.spec import Network
from triscale.record import write_atomic
from triscale.scaling.family import Family, FamilyMember, make_family, read_phis


def family(
    *,
    baseline: str,
    law: LawOption = DEFAULT_LAW,
    phis: Annotated[str, Parameter(allow_leading_hyphen=True)] = "0..4",
    classes: int | None = None,
    lite: LiteOption = False,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Write the family that a law makes of a baseline: a network for each phi, their costs and a picture.

    Parameters
    ----------
    baseline
        A published name, a JSON file (the network.json of a search) or package.module:function.
    phis
        Where on the law: numbers with commas, or a range such as 0..4 or 0..2:0.5.
    classes
        Number of classes, if not the network's own.
    out
        Folder for the networks (NAME.json), family.json, family.csv and family.svg.
    """
    network = choose_network(baseline, lite=lite)
    if classes is not None:
        network = network.replace(classes=classes)
    made = make_family(network, find_law(law), read_phis(phis), cost_of_any)
    if out is not None:
        _write(made, out)
    if json:
        print_json(made)
        return
    table(
        ("network", "phi", "px", "blocks", "params", "MACs", "ratio", "nominal", "float32"),
        [
            (
                member.network.name,
                f"{member.phi:g}",
                str(member.network.resolution),
                _blocks(member),
                si(member.params),
                si(member.macs),
                f"x{member.ratio:.3g}",
                f"x{member.nominal:.3g}",
                f"{si(member.size_bytes)}B",
            )
            for member in made.members
        ],
    )
    console.print(f"law {made.law}; nominal: what alpha x beta^2 x gamma^2 says of the MACs", style="dim")
    if out is not None:
        console.print(f"written to {out}", markup=False, soft_wrap=True)


def _write(made: Family, out: Path) -> None:
    """Write networks, table and picture; a folder that holds another family is left alone."""
    from triscale.report.draw.svg import standalone
    from triscale.report.run.family_figures import FamilyTower
    from triscale.report.run.family_figures import family as picture

    record = out / "family.json"
    if out.is_dir() and any(out.iterdir()) and not record.is_file():
        raise RunError(f"{out} is not empty and holds no family; give a new folder with --out")
    if record.is_file() and Family.load(record) != made:
        raise RunError(f"{out} holds another family; give a new folder with --out")
    for member in made.members:
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
        for member in made.members
    ]
    write_atomic(out / "family.csv", "".join(",".join(map(str, row)) + "\n" for row in (columns, *rows)).encode())
    grown = [
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
        for member in made.members
    ]
    write_atomic(out / "family.svg", standalone(picture(made.baseline, str(made.law), grown)).encode())
    made.save(record)


def _blocks(member: FamilyMember) -> str:
    return str(member.network.num_blocks) if isinstance(member.network, Network) else ""
