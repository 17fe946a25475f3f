"""Prepare a run for training: scan the images, split them, fit the network, write the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from triscale.data.checks.duplicates import Duplicates, contradictions, find_duplicates
from triscale.data.pipeline.folds import make_fold
from triscale.data.pipeline.leaks import certain, find_leaks, of_groups, refuse_leaks
from triscale.data.pipeline.split import Split, check_present, make_split
from triscale.data.sources.scanned import Scan
from triscale.jobs.core.bill_of_materials import write_bill_of_materials
from triscale.jobs.core.networks import check_sides, export_note, note_on
from triscale.jobs.core.run import Request, RunFolder, RunSpec
from triscale.jobs.data.moved_images import contents_of, reattach_moved_images
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.training import thread_choice
from triscale.jobs.training.preprocessing import choose_preprocessing
from triscale.jobs.training.rate_test import with_tested_rate
from triscale.jobs.training.settle import Conditions, settle
from triscale.measurement.device import machine
from triscale.network.custom import CustomNetwork
from triscale.results.data_summary import DataSummary, Leak, SplitCounts
from triscale.results.machine import Machine
from triscale.training.changes import unused_settings
from triscale.training.context import ExecutionContext
from triscale.training.mirroring import flip_note
from triscale.version import __version__


def prepare(
    run: RunFolder,
    request: Request,
    context: ExecutionContext,
    *,
    command: tuple[str, ...] = (),
    allow_leak: bool = False,
    check_split: Callable[[Split], None] = lambda split: None,
    conditions: Conditions | None = None,
) -> RunSpec:
    """Scan and split the images, fit the network and save the records; load them if the run is already prepared.

    Args:
        run: The run, new or with the same request.
        request: Images, network, budget and recipe.
        context: Device, workers, progress and stop flag.
        command: The command line, recorded in the run.
        allow_leak: Whether to accept images that are certainly in two splits.
        check_split: Called with a new split; if it raises, nothing is written.
        conditions: For what the request leaves open; by default the job begins now and may download weights.

    Returns:
        The run's specification.

    Raises:
        DataError: The images cannot be trained on, or are certainly in two splits without ``allow_leak``.
        BudgetError: The budget cannot be met.
        RunError: The run was started with a different request.
        Interrupted: ``context.should_stop`` returned true during the scan; nothing was written yet.
    """
    reattach_moved_images(run, request, context)
    run.refuse_other(request)
    if run.spec_file.is_file():
        spec = run.spec
        if thread_choice.is_open(context):
            thread_choice.keep_threads(spec.machine.threads)
        check_present(run.split)
        for sentence in environment_changes(spec.machine, _machine_of(context)):
            context.progress.note(sentence)
        return spec

    scanned = scan_with_progress(
        request.images,
        context,
        "stopped while scanning the images; run the same command again to restart the scan",
        request.data,
        uses_splits=request.fold is None,
    )
    copies = find_duplicates(scanned)
    split = requested_split(request, scanned, copies)
    check_split(split)
    leaks = find_leaks(split, copies, scanned.groups)
    if not allow_leak:
        refuse_leaks(split.root, leaks)
    for sentence in notes_on_images(request, scanned, split, copies, leaks, listed_in=run.data_file.name):
        context.progress.note(sentence)
    is_scaled = request.budget is not None or (
        isinstance(request.network, CustomNetwork) and (request.network.depth, request.network.width) != (1, 1)
    )
    if is_scaled and (note := note_on(request.network)) is not None:
        context.progress.note(note)
    request, network, fit = settle(request, split, context, conditions or Conditions())
    plan = request.recipe.progressive
    check_sides(network, (plan.side(network.resolution, stage) for stage in range(plan.stages)))
    if (note := export_note(network)) is not None:
        context.progress.note(note)
    for sentence in unused_settings(request.recipe, network):
        context.progress.note(sentence)
    preprocessing, note = choose_preprocessing(request.start, request.recipe, network, split, workers=context.workers)
    if note is not None:
        context.progress.note(note)
    if thread_choice.is_open(context):
        thread_choice.choose_threads(network, request.recipe, context)
    spec = RunSpec(
        version=__version__,
        request=request,
        network=network,
        fit=fit,
        preprocessing=preprocessing,
        classes=split.classes,
        split=split.digest,
        machine=_machine_of(context),
        command=command,
    )
    if request.open is not None and request.open.tests_rate:
        spec = spec.replace(request=with_tested_rate(spec, split, context))
    summary_of(scanned, split, copies, leaks).replace(allow_leak=allow_leak).save(run.data_file)
    contents_of(scanned).save(run.contents_file)
    split.save(run.split_file)
    network.save(run.network_file)
    write_bill_of_materials(run, spec.request)
    spec.save(run.spec_file)
    return spec


def notes_on_images(
    request: Request, scanned: Scan, split: Split, copies: Duplicates, leaks: tuple[Leak, ...], *, listed_in: str
) -> list[str]:
    """Return a sentence for everything about the images that may surprise: bad files, copies, leaks, groups, mirroring.

    Args:
        request: The request of the run.
        scanned: The images.
        split: Their split.
        copies: Their duplicates.
        leaks: Duplicates in different splits.
        listed_in: What lists the bad files.
    """
    notes = []
    if scanned.bad:
        notes.append(f"{len(scanned.bad)} files cannot be read as images and are skipped; {listed_in} lists them")
    num_copies, grouped = count_duplicates(copies, leaks), of_groups(leaks)
    if num_copies or len(leaks) > len(grouped):
        notes.append(
            f"duplicate images within a split: {num_copies}, across splits: {len(certain(leaks)) - len(grouped)}, "
            f"possibly across splits: {len(leaks) - len(certain(leaks))}; list them with: triscale data check"
        )
    if grouped:
        notes.append(f"images of a group that lies in an earlier split too: {len(grouped)}")
    if split.num_groups:
        notes.append(f"{split.num_groups} groups of images by {scanned.grouped_by}; each stays in one split")
    conflicts = contradictions(scanned, copies)
    if conflicts:
        what = "copies with different labels" if scanned.multi_label else "images in more than one class"
        notes.append(f"{what}: {len(conflicts)}, such as {' and '.join(conflicts[0][:2])}; keep one copy of each")
    if (note := flip_note(request.recipe, split.classes)) is not None:
        notes.append(note)
    return notes


def _machine_of(context: ExecutionContext) -> Machine:
    return machine(None if context.engine == "torch" else context.engine)


def environment_changes(before: Machine, now: Machine) -> list[str]:
    """Return a message for each change of the environment after which results differ by rounding."""
    pairs = {"torch": (dict(before.packages).get("torch"), dict(now.packages).get("torch"))}
    pairs |= {name: (getattr(before, name), getattr(now, name)) for name in ("processor", "threads", "kernels")}
    return [
        f"this run started with {name} {old} and resumes with {new}; its weights will differ by rounding"
        for name, (old, new) in pairs.items()
        if old != new
    ]


def count_duplicates(copies: Duplicates, leaks: tuple[Leak, ...]) -> int:
    """Count the images that are certainly copies of another image in the same split."""
    return sum(len(group) - 1 for group in copies.groups) - len(certain(leaks)) + len(of_groups(leaks))


def summary_of(scanned: Scan, split: Split, copies: Duplicates, leaks: tuple[Leak, ...]) -> DataSummary:
    """Return the summary of a scan that a run keeps.

    Args:
        scanned: The images.
        split: Their split.
        copies: Their duplicates.
        leaks: Duplicates in different splits.
    """
    sides = scanned.sides
    return DataSummary(
        root=split.root,
        classes=class_counts(split),
        smallest_side=sides.smallest,
        median_side=sides.median,
        largest_side=sides.largest,
        bad=scanned.bad,
        copies=count_duplicates(copies, leaks),
        leaks=leaks,
    )


def requested_split(request: Request, scanned: Scan, copies: Duplicates) -> Split:
    """Return the split that a request asks for: one fold of a cross-validation, or training, validation and test.

    Args:
        request: The request of the run.
        scanned: The images.
        copies: Their duplicates.

    Raises:
        DataError: A class has too few images or groups.
    """
    val_share = request.recipe.val_share
    if request.fold is not None:
        return make_fold(scanned, request.fold, seed=request.seed, val_share=val_share, duplicates=copies)
    return make_split(scanned, seed=request.seed, test_share=request.test_share, val_share=val_share, duplicates=copies)


def class_counts(split: Split) -> tuple[SplitCounts, ...]:
    """Count the images of each class in each split.

    Args:
        split: The split.
    """
    counts = [
        Counter(label for sample in samples for label in sample.labels)
        for samples in (split.train, split.val, split.test)
    ]
    return tuple(
        SplitCounts(name=name, train=counts[0][label], val=counts[1][label], test=counts[2][label])
        for label, name in enumerate(split.classes)
    )
