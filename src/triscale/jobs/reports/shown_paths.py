"""Paths as reports show them: never absolute, because a report is passed on and must not name a person's folders."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath


def shown_path(path: str | Path) -> str:
    """Return a path for a report: relative paths and URLs as they are, absolute ones without the folders above.

    A path below the current directory is shown relative to it, which a command accepts; of any other absolute path,
    the last name is shown. The folder of a named data set (``NAME:FOLDER``) is a path too.

    Example:
        >>> shown_path("runs/photos"), shown_path("/home/ada/photos"), shown_path("https://example.org/photos")
        ('runs/photos', 'photos', 'https://example.org/photos')
        >>> shown_path("cifar10:/data/cifar")
        'cifar10:cifar'
    """
    text = str(path)
    name, colon, folder = text.partition(":")
    if not _is_absolute(text):
        is_folder = colon and _is_absolute(folder) and not folder.startswith("//")
        return f"{name}:{shown_path(folder)}" if is_folder else text
    here = Path.cwd()
    if Path(text).is_relative_to(here) and Path(text) != here:
        return Path(text).relative_to(here).as_posix()
    return (PureWindowsPath(text) if "\\" in text else PurePosixPath(text)).name or "."


def shown_command(words: Iterable[str | Path]) -> str:
    """Return a command for a report as one line, with its paths as :func:`shown_path` shows them.

    Example:
        >>> shown_command(("triscale", "fit", "/home/ada/my photos", "--out=/data/run"))
        "triscale fit 'my photos' --out=run"
    """
    return shlex.join(_shown_word(str(word)) for word in words)


def _shown_word(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={shown_path(value)}" if equals and option.startswith("-") else shown_path(word)


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive != ""
