"""The commands of ``weights``: list, info, import, fetch and export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.data_options import DATA_DEFAULTS, DataFlags
from triscale.cli.support.options import ClassNames, Items, Json, Out, joined
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.network.contract import UNKNOWN_LICENSE
from triscale.network.cost import si
from triscale.network.input_size import parse_size

if TYPE_CHECKING:
    from triscale.weights.contract import WeightsContract

Offline = Annotated[bool, Parameter(negative="")]


def list_(*, source: str | None = None, json: Json = False) -> None:
    """List the published weights that Triscale can download.

    Parameters
    ----------
    source
        List only weights of torchvision, timm, lukemelas or google.
    """
    from triscale.weights.catalog import names, published
    from triscale.weights.sources import get_source

    rows = [published(name) for name in names(None if source is None else get_source(source)[0])]
    if json:
        print_json(rows)
        return
    table(
        ("weights", "px", "top-1 %", "license", "sha256"),
        [
            (
                weights.title,
                str(weights.network.size),
                "" if weights.accuracy is None else f"{weights.accuracy.top1:.1f}",
                weights.license or "",
                (weights.sha256 or "")[:8],
            )
            for weights in rows
        ],
    )
    console.print(
        "Empty cells: unknown. Accuracies are as published, each with the protocol of its source.", style="dim"
    )


def info(weights: str, /, *, json: Json = False) -> None:
    """Show the contract of weights: their network, preprocessing and origin.

    Parameters
    ----------
    weights
        A published name, a file written by triscale weights import, or a run.
    """
    from triscale.weights.load import contract_of

    contract = contract_of(weights)
    if json:
        print_json(contract)
    else:
        _print_contract(contract)


def import_(
    file: Path,
    /,
    *,
    source: str,
    name: str,
    out: Out,
    part: str | None = None,
    classes: str | None = None,
    drop_head: Annotated[bool, Parameter(negative="")] = False,
    mean: Items = (),
    std: Items = (),
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None,
    crop: float | None = None,
    resolution: str | None = None,
    license: str | None = None,
) -> None:
    """Convert a checkpoint of another project to a safetensors file that includes its contract.

    Pickle files are read in a separate process that executes no code from the file. The preprocessing of published
    files is known; give that of any other file, since accuracy depends on it.

    Parameters
    ----------
    file
        Safetensors, a PyTorch state dict, or a TensorFlow checkpoint (.index, its folder, or .tar.gz).
    source
        Project whose parameter names the file uses: torchvision, timm, lukemelas or google.
    name
        Name of the network in that project, such as tf_efficientnet_b0.
    out
        The file to write.
    part
        Path of the state dict inside the file, or the beginning of its names, if it contains several.
    classes
        Class names in the order of the outputs: a file with one on each line, a JSON list, or imagenet. Or their
        number; by default that of the file.
    drop_head
        Do not import the classifier.
    mean
        Mean of the channels for values from 0 to 1, such as 0.485,0.456,0.406, or 0.5 for all channels.
    std
        Standard deviation of the channels, likewise.
    interpolation
        Filter that images are resized with.
    crop
        Side of the center crop relative to the shorter side of the image, such as 0.875.
    resolution
        Size of the input, if it differs from that of the published network: the side of a square such as 224, or width
        x height such as 720x184.
    license
        License of the weights as an SPDX identifier such as apache-2.0 or cc-by-nc-4.0; it travels into runs and
        exported files. By default that of the published file, or unknown.
    """
    from triscale.weights.load import import_file
    from triscale.weights.preprocessing import GivenPreprocessing, read_class_names

    counted = classes is not None and classes.isdigit()
    loaded = import_file(
        file,
        out,
        source=source,
        name=name,
        part=part,
        classes=int(classes) if classes is not None and counted else None,
        class_names=None if classes is None or counted else read_class_names(classes),
        drop_head=drop_head,
        license=license,
        given=GivenPreprocessing(
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
            interpolation=interpolation,
            crop=crop,
            size=None if resolution is None else parse_size(resolution, "--resolution"),
        ),
    )
    for note in loaded.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(
        f"{len(loaded.state)} tensors of {loaded.weights.title} written to {out}; train with --weights {out}",
        markup=False,
        soft_wrap=True,
    )


def _numbers(option: str, items: tuple[str, ...]) -> tuple[float, ...] | None:
    text = joined(items)
    if not text:
        return None
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise UserError(f"{option} {text}: expected numbers such as 0.485,0.456,0.406") from None


def fetch(name: str, /, *, offline: Offline = False) -> None:
    """Download published weights to the cache, and import them.

    Parameters
    ----------
    name
        A name from triscale weights list.
    offline
        Do not use the network; fail if the weights are not in the cache.
    """
    from triscale.progress_bars import progress_reporter
    from triscale.weights.load import find_weights

    with progress_reporter() as reporter:
        reporter.begin("fetch")

        def on_bytes(done: int, total: int | None) -> None:
            reporter.begin("fetch", total)
            reporter.advance(done, f"{si(done)}B" + ("" if total is None else f" of {si(total)}B"))

        loaded = find_weights(name, offline=offline, progress=on_bytes)
    _print_contract(loaded.weights)
    console.print(f"saved in the cache; train with --weights {loaded.weights.title}", markup=False, soft_wrap=True)


def run(
    weights: str,
    images: str | None = None,
    /,
    *,
    out: Out,
    device: str = "auto",
    seed: int = 0,
    offline: Offline = False,
    class_names: ClassNames = None,
    data: DataFlags = DATA_DEFAULTS,
    json: Json = False,
) -> None:
    """Make a run of weights without training, for predict, explain, features, measure, export, deploy and serve.

    With images, the weights are evaluated over all their classes, and the run can be quantized to int8. Class folders
    are matched with the classes by name, or by wnid for ImageNet, never by position; they may be a part of the classes.

    Parameters
    ----------
    weights
        A published name, a file written by triscale weights import, or a run.
    images
        A folder of class folders, or any other data set, for evaluation and for calibration of int8.
    out
        Folder of the run.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    seed
        Seed of the choice of images for calibration, unless they are split into train and test.
    offline
        Do not use the network; fail if published weights are not in the cache.
    """
    from triscale.cli.support.execution import execution
    from triscale.jobs.weights_run import make_run_of_weights
    from triscale.weights.class_match import read_class_names

    with execution(device) as context:
        metrics = make_run_of_weights(
            weights,
            images,
            out,
            context,
            data=data.options(),
            seed=seed,
            offline=offline,
            class_names={} if class_names is None else read_class_names(class_names),
            command=("triscale", *sys.argv[1:]),
        )
    if json:
        print_json(metrics if metrics is not None else {"run": str(out)})
        return
    if metrics is not None:
        console.print(
            f"{metrics.summary} (95% interval {metrics.interval[0]:.1%} to {metrics.interval[1]:.1%})", soft_wrap=True
        )
    console.print(
        f"written to {out}; next: triscale predict {out} IMAGES, or triscale deploy {out}", markup=False, soft_wrap=True
    )


def export(weights: str, out: Path, /, *, source: str, name: str) -> None:
    """Write weights with the parameter names of another project, for its load_state_dict.

    Parameters
    ----------
    weights
        A run, a file written by triscale weights import, or a published name.
    out
        The safetensors file to write.
    source
        Project whose parameter names to use: torchvision, timm or lukemelas.
    name
        Name of the network in that project.
    """
    from triscale.weights.export import export_state
    from triscale.weights.load import find_weights
    from triscale.weights.tensors import write_tensors

    loaded = find_weights(weights)
    state = export_state(loaded.state, loaded.weights.network, source, name)
    origin = loaded.weights.origin
    write_tensors(
        out, dict(state), {"format": "pt", "trained_from": origin.weights, "license": origin.license_in_words}
    )
    console.print(f"{len(state)} tensors of {source}/{name} written to {out}", markup=False, soft_wrap=True)


def _print_contract(weights: WeightsContract) -> None:
    network, images = weights.network, weights.preprocessing
    rows = [
        ("weights", weights.title),
        ("network", f"{network.name}, {network.classes} classes, {network.padding} padding"),
        ("batch norm", f"eps {network.norm.eps:g}, momentum {network.norm.momentum:g}"),
        ("activation", network.stem.activation),
    ]
    if images is None:
        rows.append(("images", "preprocessing unknown; give it when importing, see: triscale weights import --help"))
    else:
        rows += [
            ("images", f"{images.size} px, {images.interpolation}, center {images.crop:.3g} of the short side"),
            ("mean, std", f"{_values(images.mean)}; {_values(images.std)}"),
        ]
    if weights.accuracy is not None:
        rows.append(("top-1", f"{weights.accuracy.top1:g} % ({weights.accuracy.protocol})"))
    rows += [
        (name, value)
        for name, value in (
            ("license", weights.license or UNKNOWN_LICENSE),
            ("sha256", weights.sha256),
            ("URL", weights.url),
            ("hub", weights.hub),
        )
        if value
    ]
    for name, value in rows:
        console.print(f"{name:<11} {value}", markup=False, soft_wrap=True)


def _values(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
