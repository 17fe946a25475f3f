"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.data_options import DATA_DEFAULTS, DataFlags
from triscale.errors import UserError
from triscale.families.find import find_lite, find_network
from triscale.network.cost import Cost, cost
from triscale.network.custom import AnyNetwork, CustomNetwork

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print machine-readable JSON.")]
ProfileOption = Annotated[
    Path | None,
    Parameter(
        name="--profile",
        help="A profile written by triscale profile, for latency budgets such as 20ms; or a built-in one for budgets "
        "such as '2000 images/s': a100, rtx3090, tpuv2 or tpuv3.",
    ),
]
MarginOption = Annotated[
    str, Parameter(name="--margin", help="Share of a latency budget to keep free, such as 10%, since it is predicted.")
]
LiteOption = Annotated[
    bool,
    Parameter(
        name="--lite",
        negative="",
        help="Use the lite variant for int8 and small devices: ReLU6, no squeeze-and-excitation, fixed stem and head.",
    ),
]
ImagesArgument = Annotated[
    str,
    Parameter(
        help="A folder of class folders, tar shards, a table (.csv, ...), a saved data set, a URL or a named set."
    ),
]


SourceArgument = Annotated[
    str,
    Parameter(
        help="Folder of a run, a file written by triscale weights import, or a published name (triscale weights list)."
    ),
]
SourceOrFileArgument = Annotated[
    str,
    Parameter(
        help="Folder of a run, a weights file, a published name (triscale weights list), or an exported file: .onnx, "
        ".xml, .pte, .tflite, or on macOS .mlpackage."
    ),
]
SourceImages = Annotated[
    str | None,
    Parameter(
        help="For a run, where its images are now, if they have moved. For weights, images in class folders that are "
        "named by their classes or by wnids."
    ),
]
ClassNames = Annotated[
    Path | None,
    Parameter(
        name="--class-names",
        help="A CSV file with a folder and a class in each row, or a JSON object: which class of the weights each "
        "class folder is, if its name does not say so.",
    ),
]
Offline = Annotated[
    bool, Parameter(negative="", help="Do not use the network; fail if published weights are not in the cache.")
]
Items = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
"""A list, written in any of the usual ways: --seeds 0 1 2, --seeds 0,1,2 or --seeds 0 --seeds 1 --seeds 2."""
Out = Annotated[Path, Parameter(name=("--out", "-o"))]
OptionalOut = Annotated[Path | None, Parameter(name=("--out", "-o"))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Training options.

    Parameters
    ----------
    out
        Folder of the run; by default runs/ and a name made of images, network and budget.
    resolution
        Size of the images: the side of a square such as 224, or width x height such as 720x184; by default that of the
        network. With a budget the network is scaled from there, and the ratio of width to height stays.
    recipe
        A recipe's name, or a JSON file, which may override fields of a named recipe: {"base": "small", ...}. The
        default is small, or finetune with pretrained weights, with epochs, batch size and learning rate for the
        number of training images and the weights. With pretrained weights, other recipes use a quarter of their
        learning rate.
    epochs
        Number of epochs; overrides the recipe.
    batch
        Batch size; overrides the recipe.
    learning_rate
        Peak learning rate; overrides the recipe. With auto, a range test of up to 100 steps chooses it.
    flip
        Whether to flip training images horizontally at random; by default unless class names speak of left and
        right, or are digits or letters.
    seed
        Seed of the split, the initial weights, the order of images and the augmentation.
    test_share
        Share of each class to hold out as test images, if the data set has no test split.
    val_share
        Share of the training images of each class that validates, to choose the epoch whose
        weights are kept; overrides the recipe.
    folds
        Cross-validate with this number of folds: one training each, so that every image is tested once. It estimates
        the accuracy; the same command without --folds trains the network to use.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    workers
        Number of processes that decode images; by default depends on the number of cores.
    threads
        Threads that compute; by default all cores. With auto, one if that is faster as the training begins, for example
        because other programs use the machine.
    allow_leak
        Accept test or validation images that are copies of other images; the report warns about them.
    weights
        Initial weights: a finished run, a file written by triscale weights import, a published name (see triscale
        weights list), or inherit: followed by one of these with a network of another size, or prune: followed by one
        of these to prune its channels to the budget. The classes may differ. By default published weights of the
        network, if they are cached or can be downloaded.
    keep_head
        Begin with the classifier of the weights too: its rows for the classes of the images, which are matched by name
        or by wnid, instead of a new classifier.
    from_scratch
        Start from random weights instead of published ones.
    teacher
        A finished run, file or published name with the same classes that the training also learns from (distillation).
    offline
        Do not use the network; published weights must be in the cache.
    settings
        Any field of the recipe, as field=value: --set mixup=0.2 --set optimizer=sgd --set augmentation.erase=0.25.
    time_limit
        Choose the number of epochs such that everything ends within this time, such as 20m or 2h.
    max_time
        Save and stop after this time, such as 90s, 30m or 2h; the same command resumes.
    dry_run
        Estimate the time, memory and disk usage of the training, and stop; nothing is written.
    compile
        Compile the forward pass; worthwhile for long trainings on a GPU.
    engine
        What takes the training steps: torch, or xla, which needs JAX and uses all XLA devices (TPUs, or with --device
        cpu or cuda others) of all hosts. A run may be resumed with the other engine.
    log
        Experiment trackers that also record the training: tensorboard, mlflow, wandb, or several.
    data
        How the images are read.
    """

    out: OptionalOut = None
    resolution: str | None = None
    recipe: str | None = None
    epochs: int | None = None
    batch: Annotated[int | None, Parameter(name=("--batch", "--batch-size"))] = None
    learning_rate: Annotated[float | Literal["auto"] | None, Parameter(name=("--learning-rate", "--lr"))] = None
    flip: bool | None = None
    seed: int = 0
    test_share: float = 0.2
    val_share: float | None = None
    folds: int | None = None
    device: str = "auto"
    workers: int | None = None
    threads: int | Literal["auto"] | None = None
    allow_leak: Annotated[bool, Parameter(negative="")] = False
    weights: str | None = None
    keep_head: Annotated[bool, Parameter(negative="")] = False
    class_names: ClassNames = None
    teacher: str | None = None
    from_scratch: Annotated[bool, Parameter(negative="")] = False
    offline: Annotated[bool, Parameter(negative="")] = False
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = ()
    time_limit: str | None = None
    max_time: str | None = None
    dry_run: Annotated[bool, Parameter(negative="")] = False
    compile: Annotated[bool, Parameter(negative="")] = False
    engine: Literal["torch", "xla"] = "torch"
    log: Items = ()
    data: DataFlags = DATA_DEFAULTS


DEFAULTS = TrainOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """Options of the trainings of a study.

    Parameters
    ----------
    recipe
        A recipe's name, or a JSON file of a recipe.
    settings
        Any field of the recipe, as field=value.
    epochs
        Epochs of each training; overrides the recipe.
    seeds
        Seeds of each training: by default 0 1 2, and 0 in a baseline search.
    share
        Share of the training images of each class to train on.
    workers
        Number of processes that train in parallel.
    threads
        Threads of each process.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    storage
        postgresql://USER@HOST/DATABASE, to run one study with the same command on several machines.
    study
        Name of the study in the storage; by default made of the job and its baseline.
    allow_leak
        Accept test or validation images that are copies of other images.
    dry_run
        Print how many trainings this takes, and about how long, and stop; nothing is written.
    data
        How the images are read.
    """

    recipe: str = "small"
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = ()
    epochs: int | None = None
    seeds: Items = ()
    share: float = 1.0
    workers: int = 1
    threads: int = 1
    device: str = "auto"
    storage: str | None = None
    study: str | None = None
    allow_leak: Annotated[bool, Parameter(negative="")] = False
    dry_run: Annotated[bool, Parameter(negative="")] = False
    data: DataFlags = DATA_DEFAULTS


STUDY_DEFAULTS = StudyFlags()


def joined(items: tuple[str, ...]) -> str | None:
    """Return a list as text with commas, or None if it is empty.

    Example:
        >>> joined(("0", "1,2")), joined(())
        ('0,1,2', None)
    """
    return ",".join(items) if items else None


def choose_network(text: str, *, lite: bool) -> AnyNetwork:
    """Return the network of a command-line argument, or its lite variant."""
    return find_lite(text) if lite else find_network(text)


def with_classes(network: AnyNetwork, classes: int | None) -> AnyNetwork:
    """Return a network with the number of classes of ``--classes``, if that was given.

    Raises:
        UserError: The number is less than 1.
    """
    if classes is None:
        return network
    if classes < 1:
        raise UserError(f"--classes {classes}: a network needs 1 or more classes; give a number such as 10")
    return network.replace(classes=classes)


def with_channels(network: AnyNetwork, channels: int | None) -> AnyNetwork:
    """Return a network for images with the number of channels of ``--channels``, if that was given.

    Raises:
        UserError: The number is less than 1, or the network is a custom model.
    """
    if channels is None:
        return network
    if channels < 1:
        raise UserError(f"--channels {channels}: an image has 1 or more channels; give 1 for gray images")
    if isinstance(network, CustomNetwork):
        raise UserError(
            f"--channels {channels}: the channels of a custom model such as {network.name} are those that its function "
            "gives it; change them there"
        )
    return network.replace(in_channels=channels)


def cost_of_any(network: AnyNetwork) -> Cost:
    """Return the cost of a network; a custom model is traced, which requires torch."""
    if isinstance(network, CustomNetwork):
        from triscale.jobs.core.networks import cost_of

        return cost_of(network)
    return cost(network)
