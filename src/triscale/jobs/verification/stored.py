"""Verify what a run stores: files and checkpoints by their digests, images by their content, records by each other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch

from triscale.data.images.color import BadImage
from triscale.data.images.decode import NO_LIMITS
from triscale.data.sources.store import open_store
from triscale.errors import DataError, Interrupted, RecordError
from triscale.jobs.core.hosts import computing_packages
from triscale.jobs.core.run import RunFolder, RunManifest
from triscale.jobs.data.moved_images import DIGITS, known_contents
from triscale.network.spec import Network
from triscale.results.machine import Machine
from triscale.results.verification import VerifiedCheck
from triscale.training.context import ExecutionContext
from triscale.training.replay import differing
from triscale.training.state.checkpoint import Checkpoints

MAX_SHOWN = 3


def judged(name: str, wrong: list[str], right: str) -> VerifiedCheck:
    """Return a check that failed if anything is wrong.

    Args:
        name: What was checked.
        wrong: What is wrong, each as a phrase.
        right: What was compared.
    """
    if not wrong:
        return VerifiedCheck(name=name, outcome="passed", detail=right)
    more = f", and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
    return VerifiedCheck(name=name, outcome="failed", detail=", ".join(wrong[:MAX_SHOWN]) + more)


def unchecked(name: str, reason: str) -> VerifiedCheck:
    """Return a check that was not made, with the reason."""
    return VerifiedCheck(name=name, outcome="not checked", detail=reason)


def check_files(run: RunFolder) -> VerifiedCheck:
    """Compare every file with the digest in the manifest of the run."""
    name = "files"
    if not run.manifest_file.is_file():
        return unchecked(name, "the run is not finished, so it has no manifest.json")
    try:
        listed = RunManifest.load(run.manifest_file).files
    except RecordError as error:
        return judged(name, [str(error)], "")
    wrong = []
    for file in listed:
        path = run.folder / file.name
        if not path.is_file():
            wrong.append(f"{file.name} is missing")
        elif path.stat().st_size != file.size_bytes or _sha256(path) != file.sha256:
            wrong.append(f"{file.name} was changed after it was written")
    return judged(name, wrong, f"SHA-256 of {len(listed)} files")


def check_checkpoints(run: RunFolder) -> VerifiedCheck:
    """Compare the checkpoints with their digests, and the weights of the run with the best of the newest one."""
    name, checkpoints = "checkpoints", Checkpoints(run.checkpoints)
    wrong = [f"{file} is damaged" for file in checkpoints.damaged()]
    found = checkpoints.undamaged()
    if not found and not wrong:
        return unchecked(name, "there are none")
    right = f"SHA-256 of {len(found)} checkpoints"
    if found and found[0].finished and found[0].best_file and run.weights_file.is_file():
        try:
            weights = safetensors.torch.load(run.weights_file.read_bytes())
        except safetensors.SafetensorError:
            wrong.append(f"{run.weights_file.name} cannot be read")
        else:
            other = differing(checkpoints.load(found[0].best_file), weights)
            wrong += [f"{tensor} in {run.weights_file.name} is not that of the kept epoch" for tensor in other]
            right += ", and the weights are those of the kept epoch"
    return judged(name, wrong, right)


def check_records(run: RunFolder) -> VerifiedCheck:
    """Compare recipe, network, seed and split of the records of a run with each other."""
    spec, split, wrong = run.spec, run.split, []
    if split.digest != spec.split:
        wrong.append(f"{run.split_file.name} is not the split of {run.spec_file.name}")
    if isinstance(spec.network, Network) and Network.load(run.network_file) != spec.network:
        wrong.append(f"{run.network_file.name} is not the network of {run.spec_file.name}")
    for one in Checkpoints(run.checkpoints).undamaged():
        pairs = {
            "recipe": (one.recipe, spec.request.recipe.digest),
            "network": (one.network, spec.network.structure),
            "seed": (one.seed, spec.request.seed),
        }
        wrong += [
            f"the {what} of the checkpoint of step {one.step} is not that of {run.spec_file.name}"
            for what, (stored, recorded) in pairs.items()
            if stored != recorded
        ]
    return judged("recipe, network, seed and split", wrong, "those of run.json in all records and checkpoints")


def check_images(run: RunFolder, context: ExecutionContext) -> VerifiedCheck:
    """Read every image of the split again, without any cache, and compare its digest with the recorded one.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    name, split = "images", run.split
    samples, known = (*split.train, *split.val, *split.test), known_contents(run)
    if not samples:
        return unchecked(name, "the run has none")
    if not known:
        return unchecked(name, "the run does not record their content")
    try:
        store = open_store(split.root)
        missing = set(store.missing([sample.path for sample in samples]))
    except DataError as error:
        return unchecked(name, str(error))
    if len(missing) == len(samples):
        return unchecked(name, f"none of them is in {split.root}; if they have moved, say where they are: --images")
    context.progress.begin("read images", len(samples))
    wrong = []
    for number, sample in enumerate(samples):
        if context.should_stop():
            raise Interrupted("stopped while the images were read; the run is unchanged")
        context.progress.advance(number)
        if sample.path in missing:
            wrong.append(f"{sample.path} is missing")
            continue
        try:
            content = store.read(sample.path, NO_LIMITS)
        except BadImage as error:
            wrong.append(f"{sample.path} cannot be read: {error}")
            continue
        if hashlib.sha256(content).hexdigest()[:DIGITS] != known.get(sample.path):
            wrong.append(f"{sample.path} has another content")
    return judged(name, wrong, f"SHA-256 of {len(samples)} images in {split.root}")


def differences_of(before: Machine, now: Machine) -> tuple[str, ...]:
    """Return in what two machines or their software differ, as far as the bits of results depend on it."""
    packages, installed = dict(before.packages), dict(now.packages)
    pairs = {name: (packages.get(name), installed.get(name)) for name in _compared_packages(before)}
    pairs |= {name: (getattr(before, name), getattr(now, name)) for name in ("processor", "accelerator", "threads")}
    if before.kernels != "xla":
        pairs["kernels"] = (before.kernels, now.kernels)
    return tuple(f"{name} {new} instead of {old}" for name, (old, new) in pairs.items() if old != new)


def _compared_packages(before: Machine) -> tuple[str, ...]:
    return computing_packages("xla" if before.kernels == "xla" else "torch")


def check_software(before: Machine, differences: tuple[str, ...]) -> VerifiedCheck:
    """Return the check of versions and machine.

    Args:
        before: What the run records.
        differences: What :func:`differences_of` returned.
    """
    name = "versions and machine"
    if differences:
        detail = f"{', '.join(differences)}; results that are not equal are compared within a tolerance"
        return VerifiedCheck(name=name, outcome="within tolerance", detail=detail)
    packages = dict(before.packages)
    shown = ", ".join(f"{package} {packages[package]}" for package in _compared_packages(before) if package in packages)
    return judged(name, [], f"{shown}, {before.processor}, {before.threads} threads")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
