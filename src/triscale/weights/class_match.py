"""Match the class folders of a data set with the outputs of a network, by name or wnid, never by position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from triscale.errors import WeightsError, nearest
from triscale.weights.catalog import imagenet_classes, imagenet_wnids

MAX_SHOWN = 5
_WNID = re.compile(r"(n\d{8})(?:[-_ ,].*)?")
"""A WordNet identifier, possibly followed by a name, as in Stanford Dogs: ``n02085620-Chihuahua``."""


def match_classes(folders: Sequence[str], classes: Sequence[str], whose: str) -> tuple[int, ...]:
    """Return the output for each class folder.

    A folder is named like a class, apart from case, ``_``, ``-`` and synonyms after a comma. If the classes are those
    of ImageNet, it may also be named by a wnid. Not all classes need a folder.

    Args:
        folders: The names of the folders.
        classes: The names of the classes, in the order of the outputs.
        whose: The weights, for messages.

    Raises:
        WeightsError: A folder matches no class, or two match the same.

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
    found = [_output(folder, outputs) for folder in folders]
    unknown = [folder for folder, output in zip(folders, found, strict=True) if output is None]
    if unknown:
        more = ", ..." if len(unknown) > MAX_SHOWN else ""
        raise WeightsError(
            f"{len(unknown)} of {len(folders)} class folders match no class of {whose}: "
            f"{', '.join(unknown[:MAX_SHOWN])}{more}{nearest(_plain(unknown[0]), outputs)}; name the folders by the "
            f"classes, such as {classes[0]}, or leave these folders out"
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


def _output(folder: str, outputs: dict[str, int]) -> int | None:
    wnid = _WNID.fullmatch(folder)
    keys = (folder, wnid[1] if wnid else "", _plain(folder), _plain(folder.partition(",")[0]))
    return next((outputs[key] for key in keys if key in outputs), None)


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", name).casefold().split())
