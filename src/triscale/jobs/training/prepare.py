"""From a folder of images and a request to a run that is ready to train."""

from __future__ import annotations

from collections import Counter

from triscale.data.checks.duplicates import Duplicates, find_duplicates
from triscale.data.pipeline.leaks import certain, find_leaks, refuse_leaks
from triscale.data.pipeline.split import Split, check_present, make_split
from triscale.errors import RunError
from triscale.jobs.core.networks import fit_any
from triscale.jobs.core.run import Request, Run, RunSpec
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.training.initial_weights import check_initial_weights, preprocessing_of
from triscale.measure.device import machine
from triscale.network.custom import AnyNetwork
from triscale.network.spec import BatchNorm, Network
from triscale.results.data_summary import DataSummary, Leak, SplitCounts
from triscale.results.machine import Machine
from triscale.scaling.fit import Fit
from triscale.training.changes import unused_settings
from triscale.training.context import ExecutionContext
from triscale.training.recipe import BySize, Recipe
from triscale.version import __version__


def prepare(
    run: Run,
    request: Request,
    context: ExecutionContext,
    *,
    command: tuple[str, ...] = (),
    allow_leak: bool = False,
) -> RunSpec:
    """Scan, split, fit the network and write it all down, or load what a run of the same request has.

    Raises:
        DataError: images that cannot be trained on, or that are certainly in two parts without ``allow_leak``.
        BudgetError: a budget that cannot be met.
        RunError: the run is of another request.
        Interrupted: ``context.should_stop`` returned true during the scan; nothing was written yet.
    """
    run.refuse_other(request)
    if run.spec_file.is_file():
        spec = run.spec
        check_present(run.split)
        for sentence in environment_changes(spec.machine, machine()):
            context.progress.note(sentence)
        return spec

    found = scan_with_progress(
        request.images, context, "stopped during the scan of the images; the same command begins it again"
    )
    copies = find_duplicates(found)
    split = make_split(
        found, seed=request.seed, test_share=request.test_share, val_share=request.recipe.val_share, duplicates=copies
    )
    leaks = find_leaks(split, copies)
    if not allow_leak:
        refuse_leaks(split, leaks)
    if found.bad:
        context.progress.note(
            f"{len(found.bad)} files cannot be read as images and are left out; {run.data_file.name} lists them"
        )
    num_copies = count_duplicates(copies, leaks)
    if num_copies or leaks:
        context.progress.note(
            f"copies within one part: {num_copies}; across parts: {len(certain(leaks))}; perhaps across parts: "
            f"{len(leaks) - len(certain(leaks))}; triscale data check lists them"
        )
    network, fit = resolve(request, len(split.classes))
    if request.start is not None:
        check_initial_weights(request.start, network)
    for sentence in unused_settings(request.recipe, network):
        context.progress.note(sentence)
    spec = RunSpec(
        version=__version__,
        request=request,
        network=network,
        fit=fit,
        preprocessing=preprocessing_of(request.start, request.recipe, network.resolution),
        classes=split.classes,
        split=split.digest,
        machine=machine(),
        command=command,
    )
    sides = found.sides
    DataSummary(
        root=split.root,
        classes=_tallies(split),
        smallest_side=sides.smallest,
        median_side=sides.median,
        largest_side=sides.largest,
        bad=found.bad,
        copies=num_copies,
        leaks=leaks,
        allow_leak=allow_leak,
    ).save(run.data_file)
    split.save(run.split_file)
    network.save(run.network_file)
    spec.save(run.spec_file)
    return spec


def environment_changes(before: Machine, now: Machine) -> list[str]:
    """Return a sentence for everything that makes the rest of a run differ, by rounding, from an uninterrupted one."""
    pairs = {"torch": (dict(before.packages).get("torch"), dict(now.packages).get("torch"))}
    pairs |= {name: (getattr(before, name), getattr(now, name)) for name in ("processor", "threads", "kernels")}
    return [
        f"this run began with {name} {old} and continues with {new}: its weights will differ by rounding"
        for name, (old, new) in pairs.items()
        if old != new
    ]


def resolve(request: Request, classes: int) -> tuple[AnyNetwork, Fit | None]:
    """Return the network to train: for so many classes, with the recipe's drop rates, within the budget."""
    network = for_classes(request.network, classes, request.recipe)
    if request.budget is None:
        return network, None
    if request.law is None:
        raise RunError("a budget needs a law to scale by; give --law")
    fit = fit_any(network, request.law, request.budget, request.predictor)
    return with_dropout(fit.network, request.recipe, fit.phi), fit


def for_classes(network: AnyNetwork, classes: int, recipe: Recipe) -> AnyNetwork:
    """Return a network with so many classes, and the drop rates and batch-norm momentum that a recipe asks for."""
    if not isinstance(network, Network):
        return network.replace(classes=classes)
    changes: dict[str, object] = {"classes": classes}
    if isinstance(recipe.dropout, float):
        changes["dropout"] = recipe.dropout
    if recipe.drop_path is not None:
        changes["drop_path"] = recipe.drop_path
    if recipe.norm_momentum is not None:
        changes["norm"] = BatchNorm(eps=network.norm.eps, momentum=recipe.norm_momentum)
    return network.replace(**changes)


def with_dropout(network: AnyNetwork, recipe: Recipe, phi: float) -> AnyNetwork:
    """Return a scaled network with the dropout of its size where the recipe asks for it; published ones have theirs."""
    if isinstance(network, Network) and isinstance(recipe.dropout, BySize):
        return network.replace(dropout=round(recipe.dropout.at(phi), 4))
    return network


def count_duplicates(copies: Duplicates, leaks: tuple[Leak, ...]) -> int:
    """Count the images that are certainly copies of another in the same part."""
    return sum(len(group) - 1 for group in copies.groups) - len(certain(leaks))


def _tallies(split: Split) -> tuple[SplitCounts, ...]:
    counts = [Counter(sample.label for sample in part) for part in (split.train, split.val, split.test)]
    return tuple(
        SplitCounts(name=name, train=counts[0][label], val=counts[1][label], test=counts[2][label])
        for label, name in enumerate(split.classes)
    )
