"""The command ``show``; it needs no torch, except for memory estimates and custom models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triscale.cli.support.options import Json, LiteOption, choose_network, cost_of_any
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.families import FAMILIES, get
from triscale.families.implied import implied_phi
from triscale.families.published import PublishedNetwork
from triscale.network.arena import flash_bytes, ram_bytes
from triscale.network.cost import Cost, cost, si
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.describe import describe_parts
from triscale.network.spec import Network
from triscale.scaling.apply import scale, scale_by_law
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.named_laws import NAMED_LAWS, phi_of_member

if TYPE_CHECKING:
    from triscale.jobs.training.memory import NetworkMemory


def show(network: str, /, *, lite: LiteOption = False, memory: int | None = None, json: Json = False) -> None:
    """Show the stages of a network and their cost.

    Parameters
    ----------
    network
        A published name, a JSON file or package.module:function.
    memory
        Also estimate the memory of inference and of a training step with this batch size; requires torch.
    """
    resolved = choose_network(network, lite=lite)
    figures = cost_of_any(resolved)
    needs = None if memory is None else _memory(resolved, memory)
    if json:
        print_json(
            {"network": resolved.model_dump(mode="json"), "cost": figures.model_dump(mode="json")}
            | ({} if needs is None else {"memory": needs.model_dump(mode="json")})
        )
        return
    console.print(f"[bold]{resolved.name}[/]  {resolved.size} px, {resolved.classes} classes: {figures}")
    blocks = _blocks(resolved, figures)
    table(
        ("stage", "block", "n", "width", "px", "params", "MACs", "activ."),
        [
            (
                stage.name,
                block,
                repeats,
                str(stage.channels),
                stage.size,
                si(stage.params),
                si(stage.macs),
                si(stage.activations),
            )
            for stage, (block, repeats) in zip(figures.stages, blocks, strict=True)
        ],
        left=2,
    )
    console.print(
        f"with biases {si(figures.macs_with_bias)} MACs, with batch norm {si(figures.macs_with_norm)}; "
        f"{si(figures.buffers)} {_buffers(resolved)}; {si(figures.size_bytes)}B as float32",
        style="dim",
    )
    if isinstance(resolved, Network):
        console.print(
            f"int8 on a microcontroller: {si(ram_bytes(resolved))}B RAM, {si(flash_bytes(resolved))}B flash",
            style="dim",
        )
    if needs is not None:
        console.print(
            f"memory with batch size {needs.batch}: {si(needs.inference.total_bytes)}B for inference, "
            f"{si(needs.training.total_bytes)}B for a training step, without Python and torch"
        )
    row = next((member for group in FAMILIES.values() for member in group if member.name == network), None)
    if row is not None and not lite and (row.depth, row.width) != (1.0, 1.0):
        _explain_coefficients(row)
        _explain_laws(row)


def _buffers(network: AnyNetwork) -> str:
    return "values in buffers" if isinstance(network, CustomNetwork) else "batch-norm values"


def _memory(network: AnyNetwork, batch: int) -> NetworkMemory:
    from triscale.jobs.training.memory import network_memory

    if batch < 1:
        raise UserError(f"--memory {batch}: give a batch size of 1 or more")
    return network_memory(network, batch)


def _explain_coefficients(row: PublishedNetwork) -> None:
    """Compare the published coefficients with the exact law."""
    baseline = FAMILIES[_family_of(row)][0]
    phis = implied_phi(row.depth, row.width, row.resolution, EFFICIENTNET, baseline.resolution)
    console.print(
        f"\nPublished: depth x{row.depth:g}, width x{row.width:g}, {row.resolution} px. "
        f"With the law ({EFFICIENTNET}), these correspond to different values of phi:"
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
            f"So the published coefficients were rounded manually. The exact law at phi {mean:.2f} gives "
            f"{literal.resolution} px and {cost(literal)}."
        )


def _explain_laws(row: PublishedNetwork) -> None:
    """Print the named laws that have a published network among their points, or that there is none."""
    found = [(name, phi) for name, law in NAMED_LAWS.items() if (phi := phi_of_member(law, row.name)) is not None]
    wanted = cost(row.network)
    for name, phi in found:
        sentence = f"The law {name} has it as its point at phi {phi:g}"
        for baseline in (FAMILIES[_family_of(row)][0].name, "efficientnet_b0"):
            scaled = cost(scale_by_law(get(baseline), NAMED_LAWS[name], phi))
            if (scaled.params, scaled.macs) == (wanted.params, wanted.macs):
                sentence += f", with the same cost: triscale scale {baseline} --law {name} --phi {phi:g}"
                break
        console.print(sentence, markup=False)
    if not found:
        console.print("No named law gives exactly this network; see --law in triscale scale --help.", markup=False)


def _family_of(row: PublishedNetwork) -> str:
    return next(family for family, group in FAMILIES.items() if row.name in {member.name for member in group})


def _blocks(network: AnyNetwork, figures: Cost) -> list[tuple[str, str]]:
    if isinstance(network, CustomNetwork):
        return [("", "") for _ in figures.stages]
    return [(part.block, str(part.repeats)) for part in describe_parts(network)]
