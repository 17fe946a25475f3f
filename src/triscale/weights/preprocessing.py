"""Complete the metadata of a file that carries none: its preprocessing and class names, as far as a user knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triscale.errors import WeightsError
from triscale.network.contract import Interpolation, Preprocessing
from triscale.network.input_size import InputSize
from triscale.weights.catalog import imagenet_classes, published, table
from triscale.weights.contract import WeightsContract
from triscale.weights.sources import SOURCES

IMAGENET = "imagenet"
"""The name of the list of ImageNet classes, instead of a file."""

MAX_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPreprocessing:
    """What a user knows of how images become the input of a network; None for what is not given.

    Attributes:
        mean: Mean of each channel for values from 0 to 1, or one for all channels.
        std: Standard deviation, likewise.
        interpolation: Filter for resizing.
        crop: Side of the center crop relative to the shorter side of the image.
        size: Height and width of the input.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Interpolation | None = None
    crop: float | None = None
    size: InputSize | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        return self == NOTHING_GIVEN


NOTHING_GIVEN = GivenPreprocessing()


def with_preprocessing(weights: WeightsContract, given: GivenPreprocessing) -> tuple[WeightsContract, tuple[str, ...]]:
    """Return the metadata with the preprocessing that a user gives, and notes on what was assumed or stays unknown.

    Args:
        weights: Metadata of a file.
        given: What the user knows.

    Raises:
        WeightsError: A value is out of range, or there is another number of values than channels.

    Example:
        >>> from triscale.weights.catalog import published
        >>> contract = published("timm/tf_efficientnet_lite0.in1k").replace(preprocessing=None)
        >>> with_preprocessing(contract, GivenPreprocessing(mean=(0.5,), std=(0.5,)))[0].preprocessing.mean
        (0.5, 0.5, 0.5)
    """
    channels = weights.network.in_channels
    known = weights.preprocessing
    if known is not None and known.channels != channels:
        known = None  # those of another number of channels do not apply
    if given.is_empty:
        if known is None:
            return weights.replace(preprocessing=None), (_unknown(weights),)
        return weights, ()
    _check(given)
    network = weights.network
    if given.size is not None:
        network = network.replace(resolution=given.size.height, aspect_ratio=given.size.aspect_ratio)
    before = known or Preprocessing.usual(network.input_shape)
    values = {
        "interpolation": given.interpolation,
        "crop": given.crop,
        "resolution": given.size and given.size.height,
        "aspect_ratio": given.size and given.size.aspect_ratio,
    }
    changes: dict[str, object] = {name: value for name, value in values.items() if value is not None}
    changes |= {
        name: _per_channel(name, value, channels)
        for name, value in (("mean", given.mean), ("std", given.std))
        if value is not None
    }
    preprocessing = before.replace(**changes)
    notes = []
    if known is None and (
        assumed := [name for name in ("mean", "std", "interpolation", "crop") if name not in changes]
    ):
        shown = ", ".join(f"{name} {_shown(getattr(preprocessing, name))}" for name in assumed)
        notes.append(f"assumed, since not given: {shown}; accuracy depends on it")
    changed = [
        f"{name} {_shown(getattr(preprocessing, name))} instead of {_shown(getattr(known, name))}"
        for name in changes
        if known is not None and getattr(preprocessing, name) != getattr(known, name)
    ]
    if changed:
        notes.append(f"the preprocessing is as given, not as published: {', '.join(changed)}")
    return weights.replace(network=network, preprocessing=preprocessing), tuple(notes)


def with_class_names(weights: WeightsContract, names: Sequence[str]) -> WeightsContract:
    """Return the metadata with class names, in the order of the outputs.

    Raises:
        WeightsError: There is another number of names than outputs, or a name is empty or occurs twice.
    """
    if len(names) != weights.network.classes:
        raise WeightsError(
            f"there are {len(names)} class names for the {weights.network.classes} outputs of {weights.title}; give "
            "one for each output, in their order"
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip() or name in seen:
            other = f" is that of output {seen[name]} too" if name in seen else " is empty"
            raise WeightsError(f'the class name of output {number}, "{name}",{other}; give each output its own name')
        seen[name] = number
    return weights.replace(classes=tuple(names))


def read_class_names(text: str) -> tuple[str, ...]:
    """Return the class names in a file, in the order of the outputs.

    Args:
        text: A text file with a name on each line, a JSON list of names, or a JSON object from the number of the output
            to its name, as ``imagenet_class_index.json`` and ``id2label`` of Transformers have it; or ``imagenet``.

    Raises:
        WeightsError: The file cannot be read, or is none of these.
    """
    if text == IMAGENET:
        return imagenet_classes()
    path = Path(text)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}; give a number, a file with a class name on each line, a JSON list, "
            f"or {IMAGENET}"
        ) from error
    except UnicodeDecodeError:
        raise WeightsError(f"{path} is not a text file in UTF-8; expected a class name on each line, or JSON") from None
    if path.suffix.lower() == ".json" or content.lstrip()[:1] in ("[", "{"):
        try:
            return _from_json(json.loads(content), path)
        except ValueError as error:
            raise WeightsError(f"{path} is not JSON ({error}); expected a list of class names") from error
    lines = [line.strip() for line in content.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def _from_json(loaded: Any, path: Path) -> tuple[str, ...]:
    if isinstance(loaded, dict) and isinstance(loaded.get("id2label"), dict):
        loaded = loaded["id2label"]
    if isinstance(loaded, dict):
        numbers = [int(key) if str(key).isdigit() else -1 for key in loaded]
        if sorted(numbers) != list(range(len(loaded))):
            raise WeightsError(f"{path} has other keys than the numbers of the outputs; expected a list of names")
        loaded = [value for _, value in sorted(zip(numbers, loaded.values(), strict=True), key=lambda pair: pair[0])]
        # imagenet_class_index.json has a pair of wnid and name for each output.
        loaded = [value[-1] if isinstance(value, list) and value else value for value in loaded]
    if not isinstance(loaded, list) or not all(isinstance(name, str) for name in loaded):
        raise WeightsError(f"{path} is not a list of class names")
    return tuple(loaded)


def _unknown(weights: WeightsContract) -> str:
    rows = [
        published(f"{weights.source}/{row.name}")
        for row in (table(weights.source).rows if weights.source in SOURCES else ())
        if row.name.partition(".")[0] == weights.architecture
    ]
    known: dict[str, str] = {}
    for row in rows:
        images = row.preprocessing
        if images is not None and images.channels == weights.network.in_channels:
            options = (
                f"--mean {_option(images.mean)} --std {_option(images.std)} --interpolation {images.interpolation} "
                f"--crop {images.crop:g}"
            )
            known.setdefault(options, row.title)
    examples = "; ".join(f"{options} ({title})" for options, title in list(known.items())[:MAX_SHOWN])
    return (
        "the preprocessing of these weights is not known, and accuracy depends on it: a wrong normalization costs some "
        "10 points, without an error. Give that of their training with --mean, --std, --interpolation and --crop"
        + (f", for example as published: {examples}" if examples else "")
    )


def _check(given: GivenPreprocessing) -> None:
    for option, values in (("mean", given.mean), ("std", given.std)):
        if values is not None and any(value > 1 for value in values):
            scaled = ",".join(f"{value / 255:.4g}" for value in values)
            raise WeightsError(
                f"--{option} {_option(values)} is for values from 0 to 255; expected values from 0 to 1: --{option} "
                f"{scaled}"
            )
    if given.mean is not None and min(given.mean) < 0:
        raise WeightsError(f"--mean {_option(given.mean)}: expected values from 0 to 1")
    if given.std is not None and min(given.std) <= 0:
        raise WeightsError(f"--std {_option(given.std)}: expected values above 0, up to 1")
    if given.crop is not None and not 0 < given.crop <= 1:
        raise WeightsError(f"--crop {given.crop:g}: expected a share of the shorter side, such as 0.875")


def _per_channel(option: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise WeightsError(
            f"--{option} {_option(values)} has {len(values)} values; expected one for each of {channels} channels, or "
            "one for all"
        )
    return values


def _option(values: Iterable[float]) -> str:
    values = tuple(values)
    return ",".join(f"{value:.6g}" for value in (values[:1] if len(set(values)) == 1 else values))


def _shown(value: object) -> str:
    return _option(value) if isinstance(value, tuple) else str(value)
