"""Choose the columns of paths, labels and splits in a table of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from triscale.data.options import DataOptions
from triscale.data.sources.column_words import (
    FLAG_WORDS,
    GROUP_WORDS,
    LABEL_WORDS,
    PATH_WORDS,
    SPLIT_WORDS,
    normalized_name,
)
from triscale.data.sources.raw_table import RawTable, quoted
from triscale.data.sources.split_folders import ROLE_WORDS
from triscale.errors import DataError, nearest

_SAMPLE = 200
_FLAGS = dict.fromkeys(("false", "0", "0.0"), "train") | dict.fromkeys(("true", "1", "1.0"), "val")
"""The split that a column such as is_valid gives an image."""


@dataclass(frozen=True, slots=True)
class TableColumnIndices:
    """The indices of the columns that are used.

    Attributes:
        path: The column of paths or ids.
        label: The column of labels; None if ``one_hot`` is given.
        split: The column of splits, if there is one.
        is_flag: Whether that column says whether an image is for validation, instead of naming its split.
        one_hot: Columns of zeros and ones, one for each class.
        group: The column of groups, if an option names one.
        notes: A sentence for everything that was concluded from unusual names.
    """

    path: int
    label: int | None
    split: int | None
    one_hot: tuple[int, ...] = ()
    group: int | None = None
    notes: tuple[str, ...] = ()
    is_flag: bool = False

    def splits(self, table: RawTable) -> list[str]:
        """Return the name of the split of each row; empty without a column of splits."""
        if self.split is None:
            return [""] * len(table.rows)
        values = table.column(self.split)
        return [_FLAGS[value.lower()] for value in values] if self.is_flag else values


def choose_columns(table: RawTable, options: DataOptions, is_image: Callable[[str], bool]) -> TableColumnIndices:
    """Choose the columns of a table by the options, by their usual names, or by their content.

    Args:
        table: The table.
        options: May name the columns.
        is_image: Whether a field names an image.

    Raises:
        DataError: A column that the options name does not exist, no column fits, or several do.
    """
    path, label, split, group = (
        _given(table, given, option)
        for given, option in (
            (options.path_column, "--path-column"),
            (options.label_column, "--label-column"),
            (options.split_column, "--split-column"),
            (options.group, "--group"),
        )
    )
    notes: list[str] = []
    if split is None:
        split = _find_split(table, {path, label, group}, notes)
    is_flag = split is not None and _is_flag(table, split)
    if is_flag and split is not None:
        notes.append(
            f"the column {table.columns[split]} of {table.file.name} "
            "is the split: true or 1 is val, false or 0 is train"
        )
    if path is None:
        path = _find_path(table, {label, split, group}, is_image)
    one_hot: tuple[int, ...] = ()
    if label is None:
        label = _find_label(table, {path, split, group})
        if label is None:
            one_hot = _find_one_hot(table, {path, split, group})
    if label is None and not one_hot:
        _refuse_without(table, "label", {path, split, group})
    chosen = [index for index in (path, label, split, group) if index is not None]
    if len(set(chosen)) < len(chosen):
        raise DataError(
            f"one column of {table.file} is given twice; give different columns of paths, labels, splits and groups"
        )
    used = {path: "path", label: "label", split: "split", group: "group"}
    plain = all(table.columns[index] == what for index, what in used.items() if index is not None)
    if label is not None and (not plain or not table.has_header):
        notes.insert(0, _describe(table, used))
    if options.group is None and options.group_regex is None and options.group_by is None:
        notes += _suggest_groups(table, {path, label, split, *one_hot})
    return TableColumnIndices(path, label, split, one_hot, group, tuple(notes), is_flag)


def find_columns(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the columns whose names are usual for paths, and for labels.

    Example:
        >>> find_columns(["image_id", "diagnosis", "age"])
        (['image_id'], ['diagnosis'])
    """
    normalized = {name: normalized_name(name) for name in names}
    return (
        [name for name in names if normalized[name] in PATH_WORDS],
        [name for name in names if normalized[name] in LABEL_WORDS],
    )


def _suggest_groups(table: RawTable, taken: set[int | None]) -> list[str]:
    """Return a note about a column that names patients or recordings of several images each."""
    for index in _named(table, taken, GROUP_WORDS) if table.has_header else []:
        values = [value for value in table.column(index) if value]
        if 2 < len(set(values)) <= len(values) / 1.5:
            name = _word(table, index)
            note = (
                f"the column {name} of {table.file.name} seems to say which images belong together; if images of one "
                f"{table.columns[index]} look alike, keep them in one split with --group {name}"
            )
            return [note]
    return []


def _describe(table: RawTable, used: dict[int | None, str]) -> str:
    chosen = ", ".join(f"{table.columns[index]} ({what})" for index, what in used.items() if index is not None)
    ignored = tuple(name for index, name in enumerate(table.columns) if index not in used and name)
    rest = f"; ignored: {quoted(ignored)}" if ignored else ""
    return f"{table.file.name} is read by the columns {chosen}{rest}"


def _given(table: RawTable, given: str | None, option: str) -> int | None:
    """Return the column that an option gives by its name or, from 1, by its number."""
    if given is None:
        return None
    matches = [index for index, name in enumerate(table.columns) if name == given]
    if not matches:
        wanted = normalized_name(given)
        matches = [index for index, name in enumerate(table.columns) if wanted and normalized_name(name) == wanted]
    if len(matches) > 1:
        raise DataError(f"{table.file} has two columns {given}; rename one of them, or give its number to {option}")
    if matches:
        return matches[0]
    if given.isascii() and given.isdigit() and 1 <= int(given) <= len(table.columns):
        return int(given) - 1
    by_lower = {name.lower(): name for name in table.columns}
    hint = nearest(given, by_lower)
    raise DataError(
        f'{table.file} has no column "{given}" ({option}){hint.rstrip("?")}; its columns are {quoted(table.columns)}'
    )


def _find_split(table: RawTable, taken: set[int | None], notes: list[str]) -> int | None:
    found = _named(table, taken, SPLIT_WORDS)
    plain = [index for index in found if normalized_name(table.columns[index]) == "split"]
    _refuse_twins(table, plain, "split")
    if not table.has_header:
        found = [index for index in range(len(table.columns)) if index not in taken and _are_splits(table, index)]
        return found[0] if len(found) == 1 else None
    if plain:
        return plain[0]
    usable = [index for index in found if any(value.lower() in ROLE_WORDS for value in table.column(index))]
    if len(usable) > 1:
        _refuse_several(table, usable, "split")
    flags = [index for index in _named(table, taken, FLAG_WORDS) if _is_flag(table, index)]
    if not usable and len(flags) == 1:
        return flags[0]
    if not usable and found:
        notes.append(
            f"the column {quoted([table.columns[index] for index in found])} is not used as split, since it does not "
            f"hold train, val and test"
        )
    return usable[0] if usable else None


def _is_flag(table: RawTable, index: int) -> bool:
    """Return whether a column has the name and the values of a flag for validation, both of them."""
    values = {value.lower() for value in table.column(index)}
    return (
        normalized_name(table.columns[index]) in FLAG_WORDS
        and values <= _FLAGS.keys()
        and len({_FLAGS[value] for value in values}) > 1
    )


def _are_splits(table: RawTable, index: int) -> bool:
    values = {value.lower() for value in table.column(index)}
    return len(values) > 1 and values <= ROLE_WORDS.keys()


def _find_path(table: RawTable, taken: set[int | None], is_image: Callable[[str], bool]) -> int:
    named = _named(table, taken, PATH_WORDS) if table.has_header else []
    plain = [index for index in named if normalized_name(table.columns[index]) == "path"]
    _refuse_twins(table, plain, "path")
    if plain:
        return plain[0]
    sample = [row.fields for row in table.rows[:_SAMPLE]]
    others = [index for index in range(len(table.columns)) if index not in taken]
    as_images = [index for index in others if sample and all(is_image(fields[index].strip()) for fields in sample)]
    strong = [index for index in named if PATH_WORDS[normalized_name(table.columns[index])] == 0]
    for candidates in (_both(named, as_images), strong, named, as_images):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            _refuse_several(table, candidates, "path")
    if table.has_header and len(others) == 1:
        _refuse_without(table, "path", taken)
    unlabeled = [index for index in others if normalized_name(table.columns[index]) not in LABEL_WORDS]
    if len(others) == 2 and len(unlabeled) == 1 and table.rows and is_image(table.rows[0].fields[unlabeled[0]].strip()):
        return unlabeled[0]
    _refuse_without(table, "path", taken)
    raise AssertionError


def _both(first: list[int], second: list[int]) -> list[int]:
    return [index for index in first if index in second]


def _find_label(table: RawTable, taken: set[int | None]) -> int | None:
    """Return the column of labels: by its name, or the only one that remains."""
    if table.has_header:
        found = _named(table, taken, LABEL_WORDS)
        plain = [index for index in found if normalized_name(table.columns[index]) == "label"]
        _refuse_twins(table, plain, "label")
        if plain or len(found) == 1:
            return (plain or found)[0]
        if found:
            same = _same_partition(table, found)
            return same if same is not None else _refuse_several(table, found, "label")
    others = [index for index, name in enumerate(table.columns) if index not in taken and name]
    others = [index for index in others if normalized_name(table.columns[index]) not in PATH_WORDS | SPLIT_WORDS]
    return others[0] if len(others) == 1 else None


def _same_partition(table: RawTable, candidates: list[int]) -> int | None:
    """Return the column with names if all columns divide the images alike, such as class_id and class_name."""
    columns = [table.column(index) for index in candidates]
    pairs = [set(zip(columns[0], other, strict=True)) for other in columns]
    sizes = {len(set(column)) for column in columns} | {len(pair) for pair in pairs}
    if len(sizes) != 1:
        return None
    named = [index for index, column in zip(candidates, columns, strict=True) if not all(map(_is_number, column))]
    return (named or candidates)[0]


def _find_one_hot(table: RawTable, taken: set[int | None]) -> tuple[int, ...]:
    """Return the columns that hold nothing but 0, 1 and the like, if there are several."""
    allowed = {"0", "1", "0.0", "1.0", "-1", "-1.0", "true", "false", ""}
    found = []
    for index, name in enumerate(table.columns):
        values = {value.lower() for value in table.column(index)}
        if index not in taken and name and values <= allowed and values - {""}:
            found.append(index)
    return tuple(found) if len(found) > 1 else ()


def _named(table: RawTable, taken: set[int | None], words: dict[str, int]) -> list[int]:
    return [index for index, name in enumerate(table.columns) if index not in taken and normalized_name(name) in words]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_twins(table: RawTable, found: list[int], what: str) -> None:
    if len(found) > 1:
        raise DataError(
            f"{table.file} has two columns {table.columns[found[0]]}; rename one of them, or give its number to "
            f"--{what}-column"
        )


def _refuse_several(table: RawTable, found: list[int], what: str) -> int:
    names = quoted([table.columns[index] for index in found])
    raise DataError(
        f"{len(found)} columns of {table.file} could be the {what} ({names}); name one of them with --{what}-column, "
        f"such as --{what}-column {_word(table, found[0])}"
    )


def _refuse_without(table: RawTable, what: str, taken: set[int | None]) -> None:
    others = [name for index, name in enumerate(table.columns) if index not in taken and name]
    hint = nearest(what, [name.lower() for name in others]).rstrip("?")
    if not table.has_header:
        raise DataError(
            f"{table.file} has no column {what} that can be recognized, and no header; give the numbers of the columns "
            f"with --path-column and --label-column, such as --path-column 1 --label-column 2"
        )
    advice = f"name it with --{what}-column" if others else "expected the columns path, label and, optionally, split"
    raise DataError(f"{table.file} has no column {what}{hint}; its columns are {quoted(table.columns)}: {advice}")


def _word(table: RawTable, index: int) -> str:
    name = table.columns[index]
    return f'"{name}"' if not name or " " in name else name
