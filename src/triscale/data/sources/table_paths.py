"""Find the image files that the rows of a table name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from triscale.data.images.other_formats import is_named_as_array, may_be_image
from triscale.data.sources.source import entries
from triscale.data.sources.split_folders import Role, is_text, role_of
from triscale.errors import DataError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_IMAGE_WORDS = {"image", "images", "img", "imgs", "jpg", "jpgs", "jpeg", "jpegs", "png", "pngs", "photo", "photos"}
_IMAGE_WORDS |= {"picture", "pictures", "data", "dataset", "files", "train", "test", "val", "valid", "validation"}
"""Words in the names of folders that usually hold the images of a table."""

_MAX_FOLDERS = 200
"""Number of folders in which images are looked for."""

_HOW = {
    "slashes": "backslashes in paths are read as /",
    "case": "some names of files or folders are spelled with other case than in the table",
    "suffix": "names without suffix are completed with that of the image",
    "file": "file:// addresses are read as paths",
}


class NamedImage(NamedTuple):
    """The text of a row that names an image, and where the row is."""

    place: str
    text: str


class _Match(NamedTuple):
    path: str
    how: str


@dataclass(frozen=True, slots=True)
class ImagePaths:
    """Find images relative to the folder of a table, another folder, or usual folders next to the table.

    Attributes:
        file: The table.
        image_folder: What paths are relative to, if not the folder of the table.
        role: The split of the whole table, to prefer its folder.
    """

    file: Path
    image_folder: str | None = None
    role: Role | None = None
    _listed: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _similar: dict[str, list[Path]] = field(default_factory=dict)
    _usual: list[list[Path]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The folder of the table; the paths of images are relative to it."""
        return self.file.absolute().parent

    @property
    def base(self) -> Path:
        """The folder that paths in the table are relative to."""
        return Path(self.image_folder).absolute() if self.image_folder else self.root

    def is_image(self, text: str) -> bool:
        """Return whether a field of the table names an image: by its suffix, or since the file exists."""
        if not text or len(text) > 1000 or "\0" in text or "\n" in text:
            return False
        return (may_be_image(text) and "." in text.strip(".")) or self.exists(text)

    def exists(self, text: str) -> bool:
        """Return whether the image that a text names exists in any of the folders."""
        folders = (
            [self.base] if self.image_folder else [self.base, *(folder for tier in self._tiers() for folder in tier)]
        )
        return any(self._exists(folder, text) for folder in folders)

    def resolve(self, images: Sequence[NamedImage]) -> tuple[list[str], list[str]]:
        """Return the paths of all images, relative to the table if they are below it, and notes.

        Args:
            images: The texts of the rows.

        Raises:
            DataError: A text is no path or a web address, a file does not exist, or several fit.
        """
        for image in images:
            self._check(image)
        if self.image_folder and not self.base.is_dir():
            raise DataError(f"there is no folder {self.image_folder}; give the folder of the images in {self.file}")
        matches = [self._find(self.base, image) for image in images]
        notes: list[str] = []
        if None in matches and not self.image_folder:
            matches, notes = self._find_elsewhere(images, matches)
        missing = [image for image, match in zip(images, matches, strict=True) if match is None]
        if missing:
            raise DataError(self._missing(missing, len(images)))
        found = [match for match in matches if match is not None]
        counts = Counter(how for match in found for how in match.how.split())
        notes += [f"{self.file.name}: {_HOW[how]} ({count} rows)" for how, count in counts.items()]
        return [self._normalized(match.path) for match in found], notes

    def _find_elsewhere(
        self, images: Sequence[NamedImage], matches: list[_Match | None]
    ) -> tuple[list[_Match | None], list[str]]:
        """Look for the missing images in the usual folders: in one that has all, or else in any of the table's folder.

        A folder beside that of the table must have all: some of its names may be those of another set's images.
        """
        tiers = self._tiers()
        tried = {folder for tier in tiers for folder in tier}
        unusual = [folder for folder in map(_inner, _folders_in(self.root)) if folder not in tried]
        rest = [image for image, match in zip(images, matches, strict=True) if match is None]
        for tier in [*tiers, unusual]:
            complete = [folder for folder in tier if all(self._find(folder, image) for image in rest)]
            if len(complete) > 1:
                names = " and ".join(self._shown(folder) for folder in complete)
                raise DataError(
                    f"the images that {self.file} lists are in {names}; name the folder to use with --image-folder"
                )
            if complete:
                found = [match or self._find(complete[0], image) for image, match in zip(images, matches, strict=True)]
                return found, [f"the images of {self.file.name} are read from the folder {self._shown(complete[0])}"]
        folders = [folder for tier in tiers for folder in tier if folder.is_relative_to(self.root)]
        used: dict[Path, None] = {}
        result: list[_Match | None] = []
        for image, match in zip(images, matches, strict=True):
            fitting = [] if match else [(folder, one) for folder in folders if (one := self._find(folder, image))]
            if len(fitting) > 1:
                names = " and ".join(self._shown(folder) for folder, _ in fitting)
                raise DataError(
                    f"{image.text} ({image.place} of {self.file}) is in {names}; name the folder with --image-folder"
                )
            used.update((folder, None) for folder, _ in fitting)
            result.append(fitting[0][1] if fitting else match)
        names = ", ".join(map(self._shown, used))
        return result, [f"the images of {self.file.name} are read from the folders {names}"] if used else []

    def _tiers(self) -> list[list[Path]]:
        """Return the usual folders in and beside the folder of the table; those of its split come first."""
        if self._usual:
            return self._usual
        stem = self.file.name.partition(".")[0].lower()
        table_role = self.role or _role(stem)
        for parent, is_usual in ((self.root, _is_usual), (self.root.parent, _is_plain)):
            folders = [
                (folder.name, _inner(folder))
                for folder in _folders_in(parent)
                if folder != self.root and (folder.name.lower() == stem or is_usual(folder.name))
            ]
            preferred = [
                path for name, path in folders if name.lower() == stem or table_role == _role(name) is not None
            ]
            others = [path for _, path in folders if path not in preferred]
            self._usual.extend([preferred, others])
        return self._usual

    def _find(self, folder: Path, image: NamedImage) -> _Match | None:
        """Return the file that a text names in a folder."""
        text, how = image.text, ""
        if text.lower().startswith("file://"):
            text, how = unquote(urlsplit(text).path), "file "
        if os.path.isfile(folder / text):  # noqa: PTH113 - pathlib raises where a name is too long
            return _Match(str(folder / text), how)
        if "\\" in text and not PureWindowsPath(text).drive:
            text, how = text.replace("\\", "/"), f"{how}slashes "
            if os.path.isfile(folder / text):  # noqa: PTH113
                return _Match(str(folder / text), how)
        return self._find_similar(folder / text, how, image)

    def _find_similar(self, path: Path, how: str, image: NamedImage) -> _Match | None:
        """Return the image file with the same stem, or the same name in other case; so for the names of folders."""
        found: list[tuple[Path, str]] = []
        for folder in self._folders_like(path.parent):
            names = self._names_like(folder, path.name)
            if len(names) > 1:
                raise DataError(
                    f"{image.text} ({image.place} of {self.file}) fits {' and '.join(names)} in {folder}; give names "
                    f"with their suffixes"
                )
            found += [(folder, name) for name in names]
        if len(found) > 1:
            fitting = " and ".join(str(folder / name) for folder, name in found)
            raise DataError(
                f"{image.text} ({image.place} of {self.file}) fits {fitting}; give names in the case of their folders"
            )
        if not found:
            return None
        ((folder, name),) = found
        if not may_be_image(path.name):
            how += "suffix "
        if folder != path.parent or may_be_image(path.name):
            how += "case"
        return _Match(str(folder / name), how)

    def _names_like(self, folder: Path, wanted: str) -> list[str]:
        """Return the image files in a folder with the same stem, or the same name in any case, the same case first."""
        listed = self._names_in(folder)
        if may_be_image(wanted):
            names = listed.get(wanted.lower(), [])
            return [name for name in names if name == wanted] or names
        fitting = listed.get(f"{wanted.lower()}.", [])
        fitting = [name for name in fitting if name.rpartition(".")[0] == wanted] or fitting
        # An array next to a picture of the same name holds something else about it.
        return [name for name in fitting if not is_named_as_array(name)] or fitting

    def _folders_like(self, folder: Path) -> list[Path]:
        """Return a folder if it exists, otherwise those whose names differ from it in nothing but case."""
        if os.path.isdir(folder) or folder.parent == folder:  # noqa: PTH112 - pathlib raises where a name is too long
            return [folder]
        key = str(folder)
        if key not in self._similar:
            self._similar[key] = [
                below
                for parent in self._folders_like(folder.parent)
                for below in _folders_in(parent, most=None)
                if below.name.lower() == folder.name.lower()
            ]
        return self._similar[key]

    def _exists(self, folder: Path, text: str) -> bool:
        path = folder / text.replace("\\", "/")
        if os.path.isfile(path):  # noqa: PTH113
            return True
        return any(
            may_be_image(path.name) or name.rpartition(".")[0] == path.name
            for parent in self._folders_like(path.parent)
            for name in self._names_like(parent, path.name)
        )

    def _names_in(self, folder: Path) -> dict[str, list[str]]:
        """Return the image files in a folder by their lower-case names, and by their stems with a dot."""
        key = str(folder)
        if key not in self._listed:
            named: dict[str, list[str]] = {}
            try:
                files = entries(folder)[1]
            except (DataError, ValueError):
                files = []
            for name in filter(may_be_image, files):
                named.setdefault(name.lower(), []).append(name)
                named.setdefault(f"{name.rpartition('.')[0].lower()}.", []).append(name)
            self._listed[key] = named
        return self._listed[key]

    def _check(self, image: NamedImage) -> None:
        if not image.text:
            raise DataError(f"{image.place} of {self.file} has no path")
        if not is_text(image.text) or "\0" in image.text:
            raise DataError(f"the path {image.text!a} in {image.place} of {self.file} is not a valid file name")
        if _URL.match(image.text) and not image.text.lower().startswith("file://"):
            raise DataError(
                f"{image.text} in {image.place} of {self.file} is an address on the web; download the images and list "
                f"their paths relative to the table"
            )

    def _missing(self, missing: list[NamedImage], total: int) -> str:
        shown = ", ".join(f"{image.text} ({image.place})" for image in missing[:3])
        shown += ", ..." if len(missing) > 3 else ""
        where = f"paths are relative to {self.base}"
        if self.image_folder is None:
            tried = [self._shown(folder) for tier in self._tiers() for folder in tier]
            where += f" (also tried: {', '.join(tried[:5])})" if tried else ""
            where += "; name another folder with --image-folder"
        if all(_is_absolute(image.text) for image in missing):
            where = "these are absolute paths, perhaps of another machine; make them relative to the table"
        return f"{len(missing)} of {total} files listed in {self.file} do not exist: {shown}; {where}"

    def _normalized(self, found: str) -> str:
        """Return a path relative to the table if it is below it, without ``..``."""
        path = Path(found)
        short = Path(os.path.normpath(path))
        if short == path or short.resolve() == path.resolve():  # not so if a symbolic link precedes the ".."
            path = short
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def _shown(self, folder: Path) -> str:
        return os.path.relpath(folder, self.root)


def _is_absolute(text: str) -> bool:
    return text.startswith("/") or bool(PureWindowsPath(text).drive)


def _is_usual(name: str) -> bool:
    return any(word in _IMAGE_WORDS for word in re.findall(r"[a-z]+", name.lower()))


def _is_plain(name: str) -> bool:
    """Return whether a name has no other words: beside the table may be folders of other sets."""
    return re.fullmatch(r"[a-z _-]+(20\d\d)?", name.lower()) is not None and all(
        word in _IMAGE_WORDS for word in re.findall(r"[a-z]+", name.lower())
    )


def _role(name: str) -> Role | None:
    found = role_of(name)
    return found[0] if found else None


def _inner(folder: Path) -> Path:
    """Return the only folder in a folder without other files, such as train/train; otherwise the folder."""
    try:
        folders, files = entries(folder)
    except DataError:
        return folder
    return folder / folders[0] if len(folders) == 1 and not files else folder


def _folders_in(folder: Path, most: int | None = _MAX_FOLDERS) -> list[Path]:
    try:
        return [folder / name for name in entries(folder)[0][:most]]
    except (DataError, ValueError):
        return []
