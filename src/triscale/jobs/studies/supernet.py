"""Train a supernet, a weight-sharing network over a search space, and evaluate networks of the space with its weights.

The accuracy with shared weights differs from that of stand-alone training, and may even rank networks differently;
:mod:`triscale.search.baseline.ranking` measures how well the rankings agree.
"""

from __future__ import annotations

import math
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
from triscale.jobs.core.run import LOCK, RunFolder
from triscale.jobs.studies.trials import binomial_error
from triscale.jobs.training.train import MAX_CACHED_BYTES, eval_batch, train_task
from triscale.network.contract import BitDepth, Preprocessing
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.nn.supernet import Supernet
from triscale.record import Record
from triscale.search.baseline.options import Options
from triscale.search.baseline.space import Sample as Point
from triscale.search.baseline.space import Space
from triscale.search.study.trial import Job, Score
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import evaluate
from triscale.training.imbalance import objective_of
from triscale.training.loop import seed_weights
from triscale.training.mirroring import with_flip
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.task import TrainingTask
from triscale.training.transfer import REESTIMATED_IMAGES, reestimate_norms

SPEC = "supernet.json"
SAMPLES = 2
"""Number of random networks per training step, in addition to the largest and the smallest."""


class SupernetSpec(Record):
    """The specification of a supernet: the same one resumes the training in its folder, a different one is refused.

    The skeleton of ``space`` has the number of classes of the images. ``split`` is the digest of the split without the
    path of the images.
    """

    kind_name: ClassVar[str] = "supernet"
    schema_number: ClassVar[int] = 2

    space: Space
    recipe: Recipe
    split: str
    seed: NonNegativeInt = 0
    samples: NonNegativeInt = SAMPLES

    def preprocessing(self, resolution: int, bit_depth: BitDepth) -> Preprocessing:
        """Return the preprocessing for networks at a resolution, and images that use this many of 16 bits."""
        network = self.space.skeleton.replace(resolution=resolution)
        return Preprocessing.usual(network.input_shape, self.recipe.crop_at(network.size.shorter), bit_depth)


def digest_of(split: Split) -> str:
    """Return the digest of a split, independent of the path of its images."""
    return split.replace(root="").digest


def train_supernet(
    spec: SupernetSpec,
    split: Split,
    folder: Path,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Train a supernet in a directory: from scratch, from its newest checkpoint, or not at all if it is trained.

    Images have the largest resolution of the space. The averaged weights after the last epoch are saved: the best epoch
    of the largest network says little about the other networks.

    Raises:
        RunError: The folder holds other files, another process trains there, or the split differs.
        Interrupted: ``context.should_stop`` returned true; the same call resumes the training.
    """
    assert context.group.size == 1, "DDP does not support steps in which some parameters are unused"
    if digest_of(split) != spec.split:
        raise RunError(
            f"the supernet in {folder} was started with another split of the images; restore the split, or start again "
            "in another folder"
        )
    run = RunFolder(folder)
    with run.lock():
        _refuse_other(spec, folder)
        if run.weights_file.is_file():
            return
        spec.save(folder / SPEC)
        seed_weights(spec.seed)
        task = TrainingTask(
            model=make_supernet(spec),
            recipe=with_flip(spec.recipe, split.classes),
            preprocessing=spec.preprocessing(max(_resolutions(spec.space)), split.bit_depth),
            classes=len(split.classes),
            objective=objective_of(spec.recipe, split),
            network_digest=spec.space.digest,
            seed=spec.seed,
        )
        manifest = train_task(run, task, split, context, on_epoch)
        tensors = Checkpoints(run.checkpoints).load(manifest.state_file)
        run.save_weights(
            {name.removeprefix("average/"): value for name, value in tensors.items() if name.startswith("average/")}
        )


def make_supernet(spec: SupernetSpec) -> Supernet:
    """Return the supernet with random weights."""
    space = spec.space
    return Supernet(corners(space), draw=_RandomNetwork(space), fixed=(space.smallest(),), samples=spec.samples)


def corners(space: Space) -> tuple[Network, ...]:
    """Return networks that together contain the largest block of every kind in every stage, most expensive first.

    Blocks of different kinds share no weights. The kinds are the full convolution, the inverted bottlenecks with and
    without expansion, MobileNetV4's block with and without its first kernel, and each other block.
    """
    options = space.choices.options
    kinds = [_kinds(of_block) for of_block in (options if len(options) > 1 else options * len(space.skeleton.stages))]
    networks = [
        space.network(_corner(space, [of_block[min(turn, len(of_block) - 1)] for of_block in kinds]))
        for turn in range(max(map(len, kinds)))
    ]
    return tuple(sorted(networks, key=lambda network: -count_network(network).macs))


Kind = dict[str, object]
"""The options that a kind of block fixes, by choice."""


def _kinds(options: Options) -> list[Kind]:
    """Return the options of the largest block of each kind."""
    kinds: dict[tuple[str, bool], Kind] = {}
    for operation in options.operations:
        for expansion in sorted(options.expansions, reverse=True):
            for start in sorted(options.starts, reverse=True):
                match operation:
                    case "mbconv" if expansion == 1:
                        kind = ("separable", False)
                    case "fused_mbconv":
                        kind = (operation, expansion == 1)
                    case "universal":
                        kind = (operation, start == 0)
                    case _:
                        kind = (operation, False)
                kinds.setdefault(kind, {"operations": operation, "expansions": expansion, "starts": start})
    return list(kinds.values())


def _corner(space: Space, kinds: Sequence[Kind]) -> Point:
    """Return the sample with a kind of block in each stage, and the largest option of every other choice."""
    sample = []
    for position, choice in enumerate(space.free_choices):
        sizes: Sequence[object] = choice.options
        match choice.name, choice.block:
            case "skips", _:
                sizes = range(len(sizes), 0, -1)  # Skips have no weights, so any option will do.
            case "operations" | "expansions" | "starts", int(block):
                sizes = [option == kinds[block][choice.name] for option in choice.options]
            case "widths", int(block):
                sizes = [_with_option(space, position, i).stages[block].width for i in range(len(choice.options))]
        sample.append(max(range(len(sizes)), key=sizes.__getitem__))  # type: ignore[arg-type]
    return tuple(sample)


def _with_option(space: Space, position: int, index: int) -> Network:
    """Return the network with one option of one choice, and the first option of every other choice."""
    return space.network(tuple(index if number == position else 0 for number in range(len(space.free_choices))))


def _resolutions(space: Space) -> tuple[int, ...]:
    return space.choices.resolutions or (space.skeleton.resolution,)


@dataclass(frozen=True, slots=True)
class _RandomSource:
    """Adapts a function to the interface of :class:`random.Random` that a space samples with."""

    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _RandomNetwork:
    """Samples networks uniformly from a space."""

    space: Space

    def __call__(self, number: Callable[[], float]) -> Network:
        return self.space.network(self.space.sample(_RandomSource(number)))


def _refuse_other(spec: SupernetSpec, folder: Path) -> None:
    file = folder / SPEC
    if file.is_file():
        if SupernetSpec.load(file) != spec:
            raise RunError(
                f"{folder} holds a supernet with another space, recipe, split or seed; give another folder, or the "
                "same options as before to resume it"
            )
    elif foreign := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
        raise RunError(f"{folder} is not empty and holds no supernet ({', '.join(foreign[:3])}); give a new folder")


@dataclass(frozen=True, slots=True)
class Supernets:
    """Evaluates networks with the weights of a trained supernet; it is pickled and sent to worker processes.

    Attributes:
        folder: Folder of the supernet.
        split_file: File of the split.
        device: Device that a worker computes on.
        threads: Threads of each worker.
        images: Number of training images for the batch-norm statistics of each network.
    """

    folder: Path
    split_file: Path
    device: str
    threads: PositiveInt = 1
    images: PositiveInt = REESTIMATED_IMAGES

    def evaluate(self, job: Job, folder: Path) -> Score:
        """Return the validation accuracy of a network with the supernet's weights.

        Batch-norm statistics are computed again from training images without augmentation, so that they match the
        validation images. All networks use the same images, so a network's score depends only on the supernet; the
        seed and the epochs of the job are ignored.

        Raises:
            RunError: The training of the supernet has not finished.
            NetworkError: The network is not in the supernet's space.
        """
        del folder
        torch.set_num_threads(self.threads)
        if not isinstance(job.network, Network):
            raise SearchError(f"a supernet does not support custom models such as {job.network.name}")
        device = torch.device(self.device)
        spec, supernet = _loaded(self.folder, device)
        preprocessing = spec.preprocessing(job.network.resolution, 16)  # only its mean and std are used
        train, val = _batches(self.split_file, spec, preprocessing.resolution, self.images)
        model = supernet.extract(job.network).to(memory_format=torch.channels_last)
        reestimate_norms(model, train, preprocessing, device)
        outcome = evaluate(model, val, preprocessing, device=device)
        return Score(outcome.score, binomial_error(outcome.score, len(outcome.labels)))


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: torch.device) -> tuple[SupernetSpec, Supernet]:
    """Return a trained supernet; cached, so that a process reads it only once."""
    run = RunFolder(folder)
    if not run.weights_file.is_file():
        raise RunError(f"the supernet in {folder} is not trained completely; run the same command again to resume it")
    spec = SupernetSpec.load(folder / SPEC)
    supernet = make_supernet(spec)
    supernet.load_state_dict(safetensors.torch.load(run.weights_file.read_bytes()))
    return spec, supernet.to(device).eval()


@dataclass(frozen=True, slots=True)
class _EvalBatches:
    """Batches of images without augmentation; decoded again in each iteration."""

    samples: Sequence[Sample]
    root: str
    preprocessing: Preprocessing
    batch: int

    def __iter__(self) -> Iterator[Batch]:
        return eval_batches(self.samples, self.root, self.preprocessing, batch=self.batch)


@lru_cache(maxsize=4)
def _batches(
    split_file: Path, spec: SupernetSpec, resolution: int, images: int
) -> tuple[Iterable[Batch], Iterable[Batch]]:
    """Return the training images for batch-norm statistics and the validation images; small sets are kept decoded."""
    split = Split.load(split_file)
    if digest_of(split) != spec.split:
        raise RunError(f"{split_file} was changed after the supernet was trained; restore it, or start from scratch")
    # In the shuffled order of an epoch: in the order of paths, a batch would hold only one or two classes.
    train = [split.train[index] for index in epoch_order(len(split.train), spec.seed, 0)[:images].tolist()]

    def cached_if_small(samples: Sequence[Sample]) -> Iterable[Batch]:
        batches = _EvalBatches(
            samples, split.root, spec.preprocessing(resolution, split.bit_depth), eval_batch(spec.recipe)
        )
        num_bytes = math.prod(batches.preprocessing.input_shape) * len(samples)
        return tuple(batches) if num_bytes <= MAX_CACHED_BYTES else batches

    return cached_if_small(train), cached_if_small(split.val)
