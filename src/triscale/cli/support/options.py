"""Options that commands share, in their own module: none of these is a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from triscale.families.find import find_lite, find_network
from triscale.network.cost import Cost, cost
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.scaling.law import EFFICIENTNET

DEFAULT_LAW = f"{EFFICIENTNET.alpha:g},{EFFICIENTNET.beta:g},{EFFICIENTNET.gamma:g}"

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print machine-readable JSON.")]
ProfileOption = Annotated[
    Path | None,
    Parameter(name="--profile", help="File of triscale profile, made on the device that a budget such as 20ms is for."),
]
LiteOption = Annotated[
    bool,
    Parameter(
        name="--lite",
        negative="",
        help="Adapt the network for int8 and small devices: ReLU6, no squeeze-and-excitation, stem and head unscaled.",
    ),
]
LawOption = Annotated[str, Parameter(name="--law", help="alpha,beta,gamma, a JSON file or a search's folder.")]
ImagesArgument = Annotated[
    str,
    Parameter(
        help="A folder of class folders, tar shards, a saved data set, a .csv or .parquet table, a URL or a named set."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train.

    Parameters
    ----------
    out
        Folder of the run; by default runs/ and a name made of images, network and budget.
    recipe
        A recipe's name, or a JSON file of one; a file may be partial and build on a named one: {"base": "small", ...}.
        By default small, with --weights finetune; others have a quarter of their learning rate with --weights.
    epochs
        Number of epochs, instead of the recipe's.
    batch
        Images in a step, instead of the recipe's.
    learning_rate
        Peak learning rate, instead of the recipe's.
    flip
        Whether training images are mirrored left to right at random; not for digits or text.
    seed
        Decides the split, the first weights, order and augmentation.
    test_share
        Share of each class that is held out for the test, where the folders give no split.
    val_share
        Share of the training images of each class that chooses the best epoch, instead of the recipe's.
    device
        auto, cpu or cuda.
    workers
        Processes that decode images; by default by the number of cores.
    threads
        Threads that compute; by default all cores. One is best for small networks on a busy machine.
    allow_leak
        Train although test or validation images are copies of others; the report says so.
    weights
        Where to start from: a finished run, a file of triscale weights import, a published name (triscale weights
        list), or inherit: and one of these of another size. Other classes are no matter.
    offline
        Ask no network for published weights; the cache is used.
    settings
        Any field of the recipe, as field=value: --set mixup=0.2 --set optimizer=sgd --set augmentation.erase=0.25.
    max_time
        Save and stop after this time, such as 90s, 30m or 2h; the same command resumes.
    dry_run
        Say what the training will take, in time, memory and disk, and stop; nothing is written.
    compile
        Compile the forward pass; pays on a GPU after the first minutes.
    tensorboard
        Write the history for TensorBoard too, into the run.
    """

    out: Path | None = None
    recipe: str | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    flip: bool | None = None
    seed: int = 0
    test_share: float = 0.2
    val_share: float | None = None
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
    allow_leak: Annotated[bool, Parameter(negative="")] = False
    weights: str | None = None
    offline: Annotated[bool, Parameter(negative="")] = False
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = ()
    max_time: str | None = None
    dry_run: Annotated[bool, Parameter(negative="")] = False
    compile: Annotated[bool, Parameter(negative="")] = False
    tensorboard: Annotated[bool, Parameter(negative="")] = False


DEFAULTS = TrainOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """How the trainings of a study are carried out.

    Parameters
    ----------
    recipe
        A recipe's name, or a JSON file of one.
    settings
        Any field of the recipe, as field=value.
    epochs
        Epochs of each training, instead of the recipe's.
    seeds
        Seeds of each training, with commas: 0,1,2 by default, and 0 in a search for a baseline.
    share
        Share of the training images of each class to train on.
    workers
        Processes that train at a time.
    threads
        Threads of each.
    device
        auto, cpu or cuda.
    storage
        postgresql://USER@HOST/DATABASE, where the same command on several machines works on one study.
    study
        Name of the study there, by default that of the job and its baseline.
    allow_leak
        Go on although test or validation images are copies of others.
    """

    recipe: str = "small"
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = ()
    epochs: int | None = None
    seeds: str | None = None
    share: float = 1.0
    workers: int = 1
    threads: int = 1
    device: str = "auto"
    storage: str | None = None
    study: str | None = None
    allow_leak: Annotated[bool, Parameter(negative="")] = False


STUDY_DEFAULTS = StudyFlags()


def root_of(images: str) -> str:
    """Return what a user gave as images such that it is found from any folder."""
    from triscale.data.sources.local import absolute
    from triscale.data.sources.named import absolute_named, is_named

    return absolute_named(images) if is_named(images) else absolute(images)


def choose_network(text: str, *, lite: bool) -> AnyNetwork:
    """Return the network that a user means, or its lite form where it is asked for."""
    return find_lite(text) if lite else find_network(text)


def cost_of_any(network: AnyNetwork) -> Cost:
    """Return what a network costs; a custom model has to be traced, which needs torch."""
    if isinstance(network, CustomNetwork):
        from triscale.jobs.core.networks import cost_of

        return cost_of(network)
    return cost(network)
