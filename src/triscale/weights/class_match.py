"""Match the class folders of a data set with the outputs of a network, by name or wnid, never by position."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from triscale.errors import WeightsError, nearest
from triscale.weights.catalog import imagenet_classes, imagenet_wnids

MAX_SHOWN = 5
NO_NAMES: Mapping[str, str] = MappingProxyType({})
_EXPECTED = 'a CSV file with rows such as 01,tench, or a .json file such as {"01": "tench"}: folder and class'
_WNID = re.compile(r"(n\d{8})(?:[-_ ,].*)?")
"""A WordNet identifier, possibly followed by a name, as in Stanford Dogs: ``n02085620-Chihuahua``."""


def match_classes(
    folders: Sequence[str],
    classes: Sequence[str],
    whose: str,
    names: Mapping[str, str] = NO_NAMES,
    *,
    or_else: str = "",
) -> tuple[int, ...]:
    """Return the output for each class folder.

    A folder is named like a class, apart from case, ``_``, ``-`` and synonyms after a comma. If the classes are those
    of ImageNet, it may also be named by a wnid. Not all classes need a folder.

    Args:
        folders: The names of the folders.
        classes: The names of the classes, in the order of the outputs.
        whose: The weights, for messages.
        names: The class of each folder that is named otherwise.
        or_else: How a user says so, as a clause of a message; empty if there is no way to.

    Raises:
        WeightsError: A folder matches no class, or two match the same, or a name is given for no folder.

    Example:
        >>> match_classes(("n01443537", "Great_White_Shark", "tench, Tinca tinca"), imagenet_classes(), "the weights")
        (1, 2, 0)
    """
    plain = [_plain(name) for name in classes]
    uses = Counter(plain)
    outputs = {name: number for number, name in enumerate(plain) if uses[name] == 1}
    outputs |= {name: number for number, name in enumerate(classes)}
    if tuple(classes) == imagenet_classes():
        outputs |= {wnid: number for number, wnid in enumerate(imagenet_wnids())}
    if strangers := [folder for folder in names if folder not in folders]:
        raise WeightsError(
            f'the class names name the folder "{strangers[0]}", which is not among the {len(folders)} class folders'
            f"{nearest(strangers[0], folders)}; give the name of a class folder"
        )
    found = [_output(names.get(folder, folder), outputs) for folder in folders]
    unknown = [folder for folder, output in zip(folders, found, strict=True) if output is None]
    if unknown:
        more = ", ..." if len(unknown) > MAX_SHOWN else ""
        raise WeightsError(
            f"{len(unknown)} of {len(folders)} class folders match no class of {whose}: "
            f"{', '.join(unknown[:MAX_SHOWN])}{more}{nearest(_plain(names.get(unknown[0], unknown[0])), outputs)}; "
            f"name the folders by the classes, such as {classes[0]}, {or_else}{', ' * bool(or_else)}or leave "
            "these folders out"
        )
    matched: dict[int, str] = {}
    for folder, output in zip(folders, found, strict=True):
        assert output is not None
        if output in matched:
            raise WeightsError(
                f'the class folders "{matched[output]}" and "{folder}" are both the class "{classes[output]}" of '
                f"{whose}; put their images into one folder"
            )
        matched[output] = folder
    return tuple(output for output in found if output is not None)


def read_class_names(file: Path) -> dict[str, str]:
    """Return the class of each folder from a file.

    Args:
        file: A JSON object, or a CSV file with a folder and a class in each row; a first row ``folder,class`` is a
            heading.

    Raises:
        WeightsError: The file cannot be read, or is neither.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise WeightsError(f"cannot read {file}: {reason}; give {_EXPECTED}") from error
    if file.suffix == ".json":
        try:
            data = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"{file} is not JSON ({error}); give {_EXPECTED}") from error
        if not isinstance(data, dict) or not all(isinstance(name, str) for name in data.values()):
            raise WeightsError(f"{file} holds no JSON object of texts; give {_EXPECTED}")
        return data
    cells = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    rows = [row for row in cells if any(row)]
    if rows and [cell.casefold() for cell in rows[0]] == ["folder", "class"]:
        rows = rows[1:]
    if not rows or any(len(row) != 2 or not all(row) for row in rows):
        raise WeightsError(f"{file} has a row without exactly two cells, or none; give {_EXPECTED}")
    if twice := [folder for folder, number in Counter(row[0] for row in rows).items() if number > 1]:
        raise WeightsError(f'{file} names the folder "{twice[0]}" twice; give one class for each folder')
    return {row[0]: row[1] for row in rows}


def _output(folder: str, outputs: dict[str, int]) -> int | None:
    wnid = _WNID.fullmatch(folder)
    keys = (folder, wnid[1] if wnid else "", _plain(folder), _plain(folder.partition(",")[0]))
    return next((outputs[key] for key in keys if key in outputs), None)


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", name).casefold().split())
