"""The command that shows a network stage by stage; it needs no torch, unless memory is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triscale.cli.support.options import Json, LiteOption, choose_network, cost_of_any
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import UserError
from triscale.families import FAMILIES
from triscale.families.implied import implied_phi
from triscale.families.published import PublishedNetwork
from triscale.network.cost import Cost, cost, si
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.describe import describe_parts
from triscale.scaling.apply import scale
from triscale.scaling.law import EFFICIENTNET

if TYPE_CHECKING:
    from triscale.jobs.training.memory import NetworkMemory


def show(network: str, /, *, lite: LiteOption = False, memory: int | None = None, json: Json = False) -> None:
    """Show a network stage by stage.

    Parameters
    ----------
    network
        A published name, a JSON file or package.module:function.
    memory
        Say too what a call and a training step of that many images take in memory; counted with torch.
    """
    found = choose_network(network, lite=lite)
    figures = cost_of_any(found)
    needs = None if memory is None else _memory(found, memory)
    if json:
        print_json(
            {"network": found.model_dump(mode="json"), "cost": figures.model_dump(mode="json")}
            | ({} if needs is None else {"memory": needs.model_dump(mode="json")})
        )
        return
    console.print(f"[bold]{found.name}[/]  {found.resolution} px, {found.classes} classes: {figures}")
    blocks = _blocks(found, figures)
    table(
        ("part", "block", "n", "width", "px", "params", "MACs", "activ."),
        [
            (
                part.name,
                block,
                repeats,
                str(part.channels),
                str(part.side),
                si(part.params),
                si(part.macs),
                si(part.activations),
            )
            for part, (block, repeats) in zip(figures.stages, blocks, strict=True)
        ],
        left=2,
    )
    console.print(
        f"with biases {si(figures.macs_with_bias)} MACs, with batch norm {si(figures.macs_with_norm)}; "
        f"{si(figures.buffers)} batch-norm values; {si(figures.size_bytes)}B as float32",
        style="dim",
    )
    if needs is not None:
        console.print(
            f"memory for {counted(needs.batch, 'image')} at a time: {si(needs.inference.total_bytes)}B in a call, "
            f"{si(needs.training.total_bytes)}B in a training step, without Python and torch"
        )
    row = next((member for group in FAMILIES.values() for member in group if member.name == network), None)
    if row is not None and not lite and (row.depth, row.width) != (1.0, 1.0):
        _explain_coefficients(row)


def _memory(network: AnyNetwork, batch: int) -> NetworkMemory:
    from triscale.jobs.training.memory import network_memory

    if batch < 1:
        raise UserError(f"--memory {batch}: give the number of images at a time, 1 or more")
    return network_memory(network, batch)


def _explain_coefficients(row: PublishedNetwork) -> None:
    """Compare the published coefficients with the literal law."""
    baseline = FAMILIES[_family_of(row)][0]
    phis = implied_phi(row.depth, row.width, row.resolution, EFFICIENTNET, baseline.resolution)
    console.print(
        f"\nPublished: depth x{row.depth:g}, width x{row.width:g}, {row.resolution} px. "
        f"The law ({EFFICIENTNET}) would give these at different phi:"
    )
    for name, value, phi in zip(
        ("depth", "width", "resolution"),
        (row.depth, row.width, row.resolution / baseline.resolution),
        phis,
        strict=True,
    ):
        console.print(f"  {name:<10} x{value:<7.4g} phi {'-' if phi is None else f'{phi:.2f}'}")
    known = [phi for phi in phis if phi is not None]
    if known:
        mean = sum(known) / len(known)
        literal = scale(baseline.network, EFFICIENTNET.at(mean))
        console.print(
            f"So the table is rounded by hand. The literal law at phi {mean:.2f} gives {literal.resolution} px and "
            f"{cost(literal)}."
        )


def _family_of(row: PublishedNetwork) -> str:
    return next(family for family, group in FAMILIES.items() if row.name in {member.name for member in group})


def _blocks(network: AnyNetwork, figures: Cost) -> list[tuple[str, str]]:
    if isinstance(network, CustomNetwork):
        return [("", "") for _ in figures.stages]
    return [(part.block, str(part.repeats)) for part in describe_parts(network)]
