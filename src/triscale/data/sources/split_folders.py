"""Tell split folders from class folders, and find the class folders of each split.

Names say which folder holds which split, in any of the usual spellings; where names and content disagree, a
:class:`~triscale.errors.DataError` says what is doubtful, since splits that are taken for classes would train silently.

::

    train/cat/  Training/cat/  seg_train/seg_train/cat/  images/train2017/cat/  cat/train/
    test/cat/   Testing/cat/   seg_test/seg_test/cat/    images/val2017/cat/    cat/test/
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from triscale.errors import DataError

Role = Literal["train", "val", "test", "unsplit"]
"""The split of the images of a folder; ``unsplit`` if no splits are given."""

ROLE_WORDS: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "eval": "test",
    "evaluation": "test",
}
"""The lower-case words that denote a split."""

EXPECTED = "expected one folder for each class, or folders train and test (or val) that hold one for each class"

Entries = Callable[[str], tuple[list[str], list[str]]]
"""From the path of a folder below a root to the names of the folders and of the other entries in it, sorted."""

_NEUTRAL = re.compile(r"sets?|data|images?|imgs?|splits?|folder|dir")
_SUFFIX = re.compile(rf"(?<=.)({_NEUTRAL.pattern})$")
"""Endings of words such as trainset."""
_CONTAINERS = {"images", "image", "imgs", "img", "data", "dataset", "photos", "pictures"}
"""Names of folders that hold the images where others beside them hold something else."""
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The class folders of each split.

    Attributes:
        of: For each split, from the name of a class (in Unicode's composed form) to the path of its folder.
        above: The folders that hold class folders or splits; files directly in them belong to no class.
        notes: A sentence for everything that was concluded from unusual names.
    """

    of: dict[Role, dict[str, str]]
    above: frozenset[str]
    notes: tuple[str, ...] = ()


def role_of(name: str) -> tuple[Role, str] | None:
    """Return the split that the name of a folder denotes, and the rest of the name; None if it denotes none.

    Example:
        >>> role_of("Training"), role_of("seg_test"), role_of("train2017"), role_of("valset"), role_of("cat")
        (('train', ''), ('test', 'seg'), ('train', ''), ('val', ''), None)
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    words = [_SUFFIX.sub("", word) for word in re.findall(r"[^\W\d_]+", spaced)]
    roles = [ROLE_WORDS[word] for word in words if word in ROLE_WORDS]
    if len(roles) != 1:
        return None
    return roles[0], " ".join(word for word in words if word not in ROLE_WORDS and not _NEUTRAL.fullmatch(word))


def find_class_folders(root: str, inside: Entries) -> ClassFolders:
    """Find the class folders of each split below a root.

    Args:
        root: The folder or URL, for messages.
        inside: Lists the folders and files in a folder.

    Raises:
        DataError: There are validation or test folders but no training folder, two folders for one split, other folders
            next to them, folders that may be splits or classes, or names that are not distinct valid UTF-8.
    """
    top, notes = _container(inside)
    folders = inside(top)[0]
    roles = _roles(root, top, folders, inside)
    if roles is not None:
        if notes or any(name.rpartition("/")[2].lower() != role for role, name in roles.items()):
            notes = [*notes, _say_roles(roles)]
        parents = {role: _descend(parent, inside) for role, parent in roles.items()}
        of = {role: class_folders(root, parent, inside) for role, parent in parents.items()}
        return ClassFolders(of, frozenset({"", top, *roles.values(), *parents.values()}), tuple(notes))
    below = {name: inside(join(top, name)) for name in folders}
    if (by_class := _splits_of_classes(top, below, inside)) is not None:
        words = ", ".join(sorted({path.rpartition("/")[2] for named in by_class.values() for path in named.values()}))
        notes = [*notes, f"each class folder holds the folders {words}, which are used as splits"]
        return ClassFolders(by_class, frozenset({"", top, *(join(top, name) for name in folders)}), tuple(notes))
    _refuse_doubtful(root, below)
    notes = [*notes, *_split_names(root, folders)]
    return ClassFolders({"unsplit": class_folders(root, top, inside)}, frozenset({"", top}), tuple(notes))


def class_folders(root: str, parent: str, inside: Entries) -> dict[str, str]:
    """Return the class folders in a folder: from the name in Unicode's composed form to the path.

    Args:
        root: The folder or URL, for messages.
        parent: Path of the folder relative to the root.
        inside: Lists the folders and files in a folder.

    Raises:
        DataError: A name is not valid UTF-8, or two names differ only in their Unicode form.
    """
    return _distinct(f"{root}/{parent}".rstrip("/"), {join(parent, name): name for name in inside(parent)[0]})


def join(parent: str, name: str) -> str:
    """Return the path of an entry of a folder; the root is the empty path."""
    return f"{parent}/{name}" if parent else name


def is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8; Python represents other bytes as lone surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _distinct(location: str, paths: dict[str, str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for path, name in paths.items():
        composed = unicodedata.normalize("NFC", name)
        if not is_text(name):
            raise DataError(f"the name of the class folder {name!a} in {location} is not valid UTF-8; rename it")
        if composed in named:
            other = paths[named[composed]]
            raise DataError(
                f"the class folders {other!a} and {name!a} in {location} have the same name, spelled with different "
                f"Unicode characters; rename or merge them"
            )
        named[composed] = path
    return named


def _container(inside: Entries) -> tuple[str, list[str]]:
    """Return the folder ``images`` or the like, if it holds the splits and other folders lie beside it."""
    folders = inside("")[0]
    holders = [name for name in folders if name.lower() in _CONTAINERS]
    if len(holders) != 1 or len(folders) < 2 or any(role_of(name) for name in folders):
        return "", []
    if "train" not in {found[0] for name in inside(holders[0])[0] if (found := role_of(name))}:
        return "", []
    others = ", ".join(name for name in folders if name != holders[0])
    return holders[0], [f"only the folder {holders[0]} is read, not {others}"]


def _roles(root: str, top: str, folders: list[str], inside: Entries) -> dict[Role, str] | None:
    """Return the folder of each split; None if the folders are those of classes."""
    found = {name: role_and_rest for name in folders if (role_and_rest := role_of(name)) is not None}
    exact = {name: role for name, (role, rest) in found.items() if not rest}
    others = [name for name in folders if name not in exact]
    if others and len(found) == len(folders) and _are_splits(top, found, inside):
        exact, others = {name: role for name, (role, _) in found.items()}, []
    if "train" not in exact.values():
        if folders and not others and exact:
            raise DataError(f"{root} holds {', '.join(folders)} but no folder train; {EXPECTED}")
        return None
    holds_folders = {name: inside(join(top, name))[0] for name in exact}
    if not any(holds_folders.values()) and (others or len(exact) == 1):
        return None  # they hold nothing but files, so that one is a class that is called "train"
    named: dict[Role, list[str]] = {}
    for name, role in exact.items():
        named.setdefault(role, []).append(name)
    for role, names in named.items():
        if len(names) > 1:
            raise DataError(f"{root} holds {' and '.join(names)}, which mean the same; keep one {role} folder")
    if others:
        raise DataError(
            f"{root} holds {_some(others)} next to {named['train'][0]}; only val and test are expected there: "
            f"rename or move the others"
        )
    order: tuple[Role, ...] = ("train", "val", "test")
    return {role: join(top, named[role][0]) for role in order if role in named}


def _are_splits(top: str, found: dict[str, tuple[Role, str]], inside: Entries) -> bool:
    """Return whether folders whose names contain a word for a split hold splits, not images of classes."""
    below = [frozenset(inside(join(top, name))[0]) for name in found]
    rests = {rest for _, rest in found.values()}
    return all(below) and (len(rests) == 1 or len(set(below)) == 1)


def _descend(parent: str, inside: Entries) -> str:
    """Follow a split folder that holds only one folder of folders, such as ``seg_train/seg_train``."""
    for _ in range(4):
        folders, files = inside(parent)
        if len(folders) != 1 or files or not inside(join(parent, folders[0]))[0]:
            return parent
        name = folders[0]
        if name != parent.rpartition("/")[2] and role_of(name) is None and name.lower() not in _CONTAINERS:
            return parent
        parent = join(parent, name)
    return parent


def _splits_of_classes(
    top: str, below: dict[str, tuple[list[str], list[str]]], inside: Entries
) -> dict[Role, dict[str, str]] | None:
    """Return the class folders of each split if every class folder holds the splits: ``cat/train``, ``cat/test``."""
    of: dict[Role, dict[str, str]] = {}
    for name, (folders, files) in below.items():
        roles = [found[0] for folder in folders if (found := role_of(folder)) and not found[1]]
        if files or "train" not in roles or len(set(roles)) != len(folders):
            return None
        if any(inside(join(join(top, name), folder))[0] for folder in folders):
            return None
        for folder, role in zip(folders, roles, strict=True):
            of.setdefault(role, {})[name] = join(join(top, name), folder)
    if len(below) < 2 or len(of) < 2:
        return None
    order: tuple[Role, ...] = ("train", "val", "test")
    return {role: of[role] for role in order if role in of}


def _refuse_doubtful(root: str, below: dict[str, tuple[list[str], list[str]]]) -> None:
    """Refuse folders that all hold the same folders and no files: they are splits or folds rather than classes."""
    inner = {frozenset(folders) for folders, _ in below.values()}
    if len(below) < 2 or len(inner) != 1 or any(files for _, files in below.values()):
        return
    (same,) = inner
    if len(same) < 2:
        return
    raise DataError(
        f"{root} holds {_some(below)}, and each of them holds the same folders ({_some(sorted(same))}), so that they "
        f"look like splits or folds, not like classes; name them train, val and test if they are splits, or list the "
        f"images with their classes in a table (path,label)"
    )


def _split_names(root: str, folders: list[str]) -> list[str]:
    """Refuse folders whose names are those of classes with a split, such as ``cat_train`` and ``cat_test``.

    A single name with one split is a class: a bullet train. Where there are other folders too, they may all be
    classes, which a note says.

    Raises:
        DataError: Every folder has such a name, and every class occurs with two splits or more.
    """
    splits: dict[str, dict[Role, str]] = {}
    for name in folders:
        if (found := role_of(name)) is not None and found[1]:
            splits.setdefault(found[1], {})[found[0]] = name
    paired = {rest: named for rest, named in splits.items() if len(named) > 1}
    if not paired:
        return []
    rest, named = next(iter(paired.items()))
    shown = " and ".join(named.values())
    if sum(map(len, paired.values())) < len(folders):
        return [f"the folders {shown} are used as classes of their own, not as splits of one class"]
    raise DataError(
        f"{root} holds {_some(folders)}, whose names say a class and a split ({shown}: {rest}), so that they would be "
        f"classes of their own; {EXPECTED}: move the images to {'; '.join(f'{role}/{rest}' for role in named)}"
    )


def _say_roles(roles: dict[Role, str]) -> str:
    renamed = [f"{path} as {role}" for role, path in roles.items() if path.lower() != role]
    return f"used as splits: {', '.join(renamed)}"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:_MAX_NAMES]) + (f" and {len(every) - _MAX_NAMES} more" if len(every) > _MAX_NAMES else "")
