"""One weight-sharing network over a space: trained once, then asked for each network of the space.

What it answers is not the accuracy of a network that was trained by itself, and may not even order networks as
trainings do; :mod:`triscale.search.baseline.ranking` says how well it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch
from pydantic import NonNegativeInt, PositiveInt

from triscale.data.pipeline.loader import Batch, eval_batches
from triscale.data.pipeline.order import epoch_order
from triscale.data.pipeline.split import Sample, Split
from triscale.errors import RunError, SearchError
from triscale.jobs.core.run import LOCK, Run
from triscale.jobs.studies.trials import binomial_error
from triscale.jobs.training.train import HELD_BYTES, eval_batch, train_task
from triscale.network.contract import Preprocessing
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.nn.supernet import Supernet
from triscale.record import Record
from triscale.search.baseline.options import Operation, Options
from triscale.search.baseline.space import Sample as Point
from triscale.search.baseline.space import Space
from triscale.search.study.trial import Job, Score
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import evaluate
from triscale.training.loop import seed_weights
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.task import TrainingTask
from triscale.training.transfer import REESTIMATED_IMAGES, reestimate_norms

SPEC = "supernet.json"
SAMPLES = 2
"""Networks that are drawn at each step, besides the largest and the smallest."""


class SupernetSpec(Record):
    """What a supernet is, and how it is trained: the same continues in its folder, another one is refused.

    The skeleton of ``space`` is for the classes of the images. ``split`` is the digest of the split, wherever the
    images lie.
    """

    kind_name: ClassVar[str] = "supernet"
    schema_number: ClassVar[int] = 2

    space: Space
    recipe: Recipe
    split: str
    seed: NonNegativeInt = 0
    samples: NonNegativeInt = SAMPLES

    def preprocessing(self, resolution: int) -> Preprocessing:
        """Return how images become the input of networks at a resolution."""
        return Preprocessing(resolution=resolution, crop=self.recipe.crop_at(resolution))


def digest_of(split: Split) -> str:
    """Return the digest of a split, wherever its images lie."""
    return split.replace(root="").digest


def train_supernet(
    spec: SupernetSpec,
    split: Split,
    folder: Path,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Train a supernet in a directory: from scratch, from its newest checkpoint, or not at all if it is trained.

    The images have the largest resolution of the space. What is kept are the averaged weights after the last epoch: the
    best epoch of the largest network, by which others are chosen, says little about the rest.

    Raises:
        RunError: the folder holds something else or another process trains there, or it is another split.
        Interrupted: ``context.should_stop`` returned true; the same call resumes from there.
    """
    assert context.group.size == 1, "parameters that no network of a step has are unknown to several processes"
    if digest_of(split) != spec.split:
        raise RunError(
            f"the supernet in {folder} is for another split of the images; restore it, or start from scratch"
        )
    run = Run(folder)
    with run.lock():
        _refuse_other(spec, folder)
        if run.weights_file.is_file():
            return
        spec.save(folder / SPEC)
        seed_weights(spec.seed)
        task = TrainingTask(
            model=make_supernet(spec),
            recipe=spec.recipe,
            preprocessing=spec.preprocessing(max(_resolutions(spec.space))),
            classes=len(split.classes),
            network_digest=spec.space.digest,
            seed=spec.seed,
        )
        manifest = train_task(run, task, split, context, on_epoch)
        tensors = Checkpoints(run.checkpoints).load(manifest.state_file)
        run.save_weights(
            {name.removeprefix("average/"): value for name, value in tensors.items() if name.startswith("average/")}
        )


def make_supernet(spec: SupernetSpec) -> Supernet:
    """Return the supernet with its first weights, which chance draws."""
    space = spec.space
    return Supernet(corners(space), draw=_Draw(space), fixed=(space.smallest(),), samples=spec.samples)


def corners(space: Space) -> tuple[Network, ...]:
    """Return networks that together have the largest of every kind of block in every stage, most expensive first.

    Blocks of two kinds share no weights: a full convolution, one without expansion, one with it, and each residual
    block.
    """
    options = space.choices.options
    kinds = [_kinds(of_block) for of_block in (options if len(options) > 1 else options * len(space.skeleton.stages))]
    found = [
        space.network(_corner(space, [of_block[min(turn, len(of_block) - 1)] for of_block in kinds]))
        for turn in range(max(map(len, kinds)))
    ]
    return tuple(sorted(found, key=lambda network: -count_network(network).macs))


def _kinds(options: Options) -> list[tuple[Operation, int]]:
    """Return an operation and its largest expansion for each kind of block."""
    found: dict[str, tuple[Operation, int]] = {}
    for operation in options.operations:
        if operation != "mbconv":
            found.setdefault(operation, (operation, options.expansions[0]))
            continue
        for expansion in sorted(options.expansions, reverse=True):
            found.setdefault("separable" if expansion == 1 else "mbconv", (operation, expansion))
    return list(found.values())


def _corner(space: Space, chosen: Sequence[tuple[Operation, int]]) -> Point:
    """Return the sample with these operations and expansions, and the largest of all else."""
    sample = []
    for place, choice in enumerate(space.places):
        sizes: Sequence[object] = choice.options
        match choice.name, choice.block:
            case "skips", _:
                sizes = range(len(sizes), 0, -1)  # They have no weights: the first will do.
            case "operations", int(block):
                sizes = [operation == chosen[block][0] for operation in choice.options]
            case "expansions", int(block):
                sizes = [expansion == chosen[block][1] for expansion in choice.options]
            case "widths", int(block):
                sizes = [_with(space, place, index).stages[block].width for index in range(len(choice.options))]
        sample.append(max(range(len(sizes)), key=sizes.__getitem__))  # type: ignore[arg-type]
    return tuple(sample)


def _with(space: Space, place: int, index: int) -> Network:
    """Return a network with an option of one choice, whose width may not be in proportion."""
    return space.network(tuple(index if number == place else 0 for number in range(len(space.places))))


def _resolutions(space: Space) -> tuple[int, ...]:
    return space.choices.resolutions or (space.skeleton.resolution,)


@dataclass(frozen=True, slots=True)
class _Chance:
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draws networks of a space, each sample with the same probability."""

    space: Space

    def __call__(self, number: Callable[[], float]) -> Network:
        return self.space.network(self.space.sample(_Chance(number)))


def _refuse_other(spec: SupernetSpec, folder: Path) -> None:
    file = folder / SPEC
    if file.is_file():
        if SupernetSpec.load(file) != spec:
            raise RunError(
                f"{folder} holds a supernet of another space, recipe, split or seed; give another folder, or the same "
                "options to resume it"
            )
    elif foreign := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
        raise RunError(f"{folder} is not empty and holds no supernet ({', '.join(foreign[:3])}); give a new folder")


@dataclass(frozen=True, slots=True)
class Supernets:
    """How a trained supernet is asked for networks; it is sent to other processes.

    Attributes:
        folder: of the supernet.
        split_file: which image is for what.
        device: where a worker computes.
        threads: of each worker.
        images: training images that the statistics of batch norm are taken from for each network.
    """

    folder: Path
    split_file: Path
    device: str
    threads: PositiveInt = 1
    images: PositiveInt = REESTIMATED_IMAGES

    def asked(self, job: Job, folder: Path) -> Score:
        """Return the accuracy on the held-out images that a network has with the supernet's weights.

        The statistics of batch norm are taken from training images as they are evaluated, without augmentation: they
        are to fit the held-out ones. They are the same images for every network, so that a network's score is a
        function of the supernet alone; the job's seed and epochs are no matter.

        Raises:
            RunError: the supernet has not been trained to the end.
            NetworkError: the network is not in its space.
        """
        del folder
        torch.set_num_threads(self.threads)
        if not isinstance(job.network, Network):
            raise SearchError(f"{job.network.name} is a function, and a supernet knows networks of its space alone")
        device = torch.device(self.device)
        spec, supernet = _loaded(self.folder, device)
        preprocessing = spec.preprocessing(job.network.resolution)
        seen, held_out = _pictures(self.split_file, spec, preprocessing.resolution, self.images)
        model = supernet.extract(job.network).to(memory_format=torch.channels_last)
        reestimate_norms(model, seen, preprocessing, device)
        outcome = evaluate(model, held_out, preprocessing, device=device)
        return Score(outcome.top1, binomial_error(outcome.top1, len(outcome.labels)))


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: torch.device) -> tuple[SupernetSpec, Supernet]:
    """Return a trained supernet; a process reads it once."""
    run = Run(folder)
    if not run.weights_file.is_file():
        raise RunError(f"the supernet in {folder} has not been trained to the end; give the same command again")
    spec = SupernetSpec.load(folder / SPEC)
    supernet = make_supernet(spec)
    supernet.load_state_dict(safetensors.torch.load(run.weights_file.read_bytes()))
    return spec, supernet.to(device).eval()


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Images in batches, as they are evaluated."""

    samples: Sequence[Sample]
    root: str
    preprocessing: Preprocessing
    batch: int

    def __iter__(self) -> Iterator[Batch]:
        return eval_batches(self.samples, self.root, self.preprocessing, batch=self.batch)


@lru_cache(maxsize=4)
def _pictures(
    split_file: Path, spec: SupernetSpec, resolution: int, images: int
) -> tuple[Iterable[Batch], Iterable[Batch]]:
    """Return the training images for statistics and the held-out ones; few of them stay decoded."""
    split = Split.load(split_file)
    if digest_of(split) != spec.split:
        raise RunError(f"{split_file} was changed after the supernet was trained; restore it, or start from scratch")
    # In the order of an epoch: by path, a batch would hold a class or two.
    seen = [split.train[index] for index in epoch_order(len(split.train), spec.seed, 0)[:images].tolist()]

    def kept(samples: Sequence[Sample]) -> Iterable[Batch]:
        found = _Pictures(samples, split.root, spec.preprocessing(resolution), eval_batch(spec.recipe))
        return tuple(found) if 3 * resolution**2 * len(samples) <= HELD_BYTES else found

    return kept(seen), kept(split.val)
