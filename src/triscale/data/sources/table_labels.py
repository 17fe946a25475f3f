"""Turn the label column of a table into one class for each image; refuse several labels, and measurements."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from triscale.data.invisible import invisible_in
from triscale.data.sources.raw_table import RawTable, quoted
from triscale.errors import DataError

EMPTY_LABELS = {"", "nan", "null", "<na>", "n/a", "#n/a"}
"""Cells without a label, in lower case."""
_DOUBTFUL = {"na", "none", "?", "unknown", "-"}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_MAX_SHOWN = 5
_MIN_ROWS = 20
"""Number of rows from which integers that differ in most rows are taken for measurements."""

_HARD = {",": "commas", ";": "semicolons", "|": "vertical bars", "\n": "line ends", "\t": "tabs"}
"""Separators that are rare in the name of a class."""
_SPACED = {
    " & ": "ampersands",
    " + ": "plus signs",
    " / ": "slashes",
    " - ": "hyphens",
    " and ": 'the word "and"',
}
"""Separators with spaces around them, which would be labels of their own if the spaces separated the labels."""
_SOFT = {" ": "spaces", "/": "slashes", "+": "plus signs", "&": "ampersands", "_": "underscores", "-": "hyphens"}
"""Separators that are also frequent in the name of a class."""


def class_names(
    file: Path, places: Sequence[str], values: Sequence[str], *, combinations: bool = False
) -> tuple[list[str], list[str]]:
    """Return the class of each row, and notes.

    Args:
        file: The table, for messages.
        places: Where each row is.
        values: The label of each row.
        combinations: Whether a cell that looks like several labels is one class, instead of an error.

    Raises:
        DataError: Rows have no label, cells hold several labels, or the labels are measurements.

    Example:
        >>> class_names(Path("a.csv"), ["line 2", "line 3"], ["1.0", "2.0"])[0]
        ['1', '2']
    """
    labels = [unicodedata.normalize("NFC", value.strip()) for value in values]
    _check_present(file, places, labels)
    notes: list[str] = []
    if not combinations:
        labels = [_only_item(label) for label in labels]
        _refuse_several(file, places, labels, notes)
    for place, label in zip(places, labels, strict=True):
        refuse_unprintable(file, place, label)
    if all(_NUMBER.fullmatch(label) for label in labels):
        _refuse_measurements(file, labels)
        whole = [matched[1] if (matched := _WHOLE.fullmatch(label)) else label for label in labels]
        changed = next(((old, new) for old, new in zip(labels, whole, strict=True) if old != new), None)
        if changed is not None:
            labels = whole
            notes.append(f"{file.name}: labels such as {changed[0]} are read as {changed[1]}")
    doubtful = sorted({label for label in labels if label.lower() in _DOUBTFUL})
    notes += [f'{file.name}: the label "{label}" is a class like any other' for label in doubtful]
    return labels, notes


def one_hot_names(
    table: RawTable, indices: Sequence[int], rows: Sequence[Sequence[bool]]
) -> tuple[list[str], list[str]]:
    """Return the class of each row from columns of zeros and ones, and a note.

    Args:
        table: The table.
        indices: The columns.
        rows: Which of them hold a 1 in each row, at most one.

    Raises:
        DataError: A row has no 1.
    """
    names = [table.columns[index] for index in indices]
    none = [row for row, marks in zip(table.rows, rows, strict=True) if not any(marks)]
    if none:
        raise DataError(
            f"{len(none)} of {len(rows)} rows of {table.file} have no 1 in any of the columns {quoted(names)} (such as "
            f"{none[0].place}); give each image one label, name a column with --label-column, or read them as images "
            f"with any number of labels with --multi-label"
        )
    note = f"{table.file.name} has no column label; the column with a 1 is the class: {quoted(names)}"
    return [names[marks.index(True)] for marks in rows], [note]


def refuse_unprintable(file: Path, place: str, label: str) -> None:
    """Refuse a label with characters that cannot be seen.

    Args:
        file: The table.
        place: Where the label is.
        label: The label.

    Raises:
        DataError: It has one, which is named.
    """
    if (invisible := invisible_in(label)) is not None:
        raise DataError(
            f"the label {label!a} in {place} of {file} holds a character that cannot be seen ({invisible}); remove it"
        )


def other_separators(file: Path, sets: Sequence[tuple[str, ...]], separator: str | None) -> list[str]:
    """Return a note if labels that were separated still look like several ones, with another separator.

    Args:
        file: The table.
        sets: The labels of each row.
        separator: The separator that was given.

    Example:
        >>> other_separators(Path("a.csv"), [("cat,dog",), ("cat",)], ";")[0].partition(";")[0]
        'a.csv: 1 of 2 labels holds commas, such as "cat,dog", and stays one label'
    """
    labels = sorted({label for labels in sets for label in labels})
    for mark, name in (_HARD | _SPACED).items():
        found = [label for label in labels if mark != separator and len(_parts(label, mark)) > 1]
        if found:
            holds, stays = ("holds", "and stays one label") if len(found) == 1 else ("hold", "and stay one label each")
            return [
                (
                    f'{file.name}: {len(found)} of {len(labels)} labels {holds} {name}, such as "{found[0]}", {stays}; '
                    f"if these are several labels, give --label-separator {_shell(mark)}, or write the same separator "
                    "everywhere"
                )
            ]
    return []


def refuse_several_labels(file: Path, path: str, first: tuple[str, str], second: tuple[str, str]) -> None:
    """Refuse an image that is listed with two labels.

    Args:
        file: The table.
        path: The image.
        first: Place and label of the first row.
        second: Place and label of the second row.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"{file} lists {path} twice, in {first[0]} and {second[0]}, with the labels {first[1]} and {second[1]}; keep "
        f"one row for each image, or read all rows of an image as its labels with --multi-label"
    )


def _check_present(file: Path, places: Sequence[str], labels: Sequence[str]) -> None:
    empty = [
        place for place, label in zip(places, labels, strict=True) if label.lower() in EMPTY_LABELS or label == "[]"
    ]
    if empty:
        shown = ", ".join(empty[:_MAX_SHOWN]) + (", ..." if len(empty) > _MAX_SHOWN else "")
        rows = "row" if len(labels) == 1 else "rows"
        have = "has" if len(empty) == 1 else "have"
        raise DataError(
            f"{len(empty)} of {len(labels)} {rows} {have} no label in {file} ({shown}): an empty label is not a class "
            f"name; label or remove them"
        )


def _refuse_measurements(file: Path, labels: Sequence[str]) -> None:
    distinct = len(set(labels))
    fractional = any(not _WHOLE.fullmatch(label) and not label.lstrip("+-").isdigit() for label in labels)
    if (fractional and (distinct > len(labels) / 2 or distinct > _MIN_ROWS)) or (
        len(labels) >= _MIN_ROWS and distinct > len(labels) / 2
    ):
        raise DataError(
            f"the labels in {file} are {distinct} different numbers in {len(labels)} rows (such as {labels[0]}), which "
            f"look like measurements; Triscale classifies, and does not predict numbers (regression, ordinal targets): "
            f"give classes, or name another column with --label-column"
        )


def _only_item(label: str) -> str:
    """Return the item of a list that holds one, such as ``['cat']``; otherwise the label."""
    items = items_of(label)
    return items[0] if items is not None and len(items) == 1 else label


def items_of(label: str) -> list[str] | None:
    """Return the items of a list as Python or JSON write it; None for other labels.

    Example:
        >>> items_of("['cat', 'dog']"), items_of("cat")
        (['cat', 'dog'], None)
    """
    if len(label) < 2 or label[0] + label[-1] not in ("[]", "()", "{}"):
        return None
    try:
        loaded = json.loads(label)
    except ValueError:
        loaded = [
            item.strip().strip("'\"")
            for item in re.split(r"[,;\s]+(?=(?:[^'\"]*['\"][^'\"]*['\"])*[^'\"]*$)", label[1:-1])
        ]
    items = loaded if isinstance(loaded, list) else []
    return [str(item) for item in items if str(item)] or None


def _refuse_several(file: Path, places: Sequence[str], labels: Sequence[str], notes: list[str]) -> None:
    """Refuse cells that hold several labels; add a note where that is possible but not likely."""
    counts = Counter(labels)
    listed = [label for label in counts if (items := items_of(label)) and len(items) > 1 and label[0] == "["]
    if listed:
        _raise_several(file, places, labels, listed, None)
    seen: set[str] = set()
    for mark, name in (_HARD | _SPACED | _SOFT).items():
        compound = [label for label in counts if label not in seen and len(_parts(label, mark)) > 1]
        if mark in _SPACED:
            seen.update(compound)
        if not compound:
            continue
        combined = _combinations(counts, compound, mark)
        if combined and 2 * len(combined) >= len(compound):
            _raise_several(file, places, labels, combined, mark)
        doubtful = [] if combined or mark in _HARD or mark in ("_", "-") else _nested(counts, compound, mark)[1]
        if combined or doubtful or mark in _HARD:
            example = (combined or doubtful or compound)[0]
            notes.append(f'{file.name}: labels with {name}, such as "{example}", are used as classes of their own')


def _combinations(counts: Counter[str], compound: list[str], mark: str) -> list[str]:
    """Return the labels that are combinations of others, as far as the separator allows that conclusion."""
    parts = {label: set(_parts(label, mark)) for label in compound}
    single = {label for label in counts if label not in parts}
    frequency = Counter(part for found in parts.values() for part in found)
    if mark in ("_", "-"):
        return [label for label in compound if parts[label] <= single]
    by_single = [label for label in compound if parts[label] & single]
    if mark in _HARD:
        return [
            label for label in compound if parts[label] & single or any(frequency[part] > 1 for part in parts[label])
        ]
    widths = {len(found) for found in parts.values()}
    vocabulary = len(single | set(frequency))
    if vocabulary < len(counts) and len(widths) > 1 and len(compound) > 3:
        return compound
    return list(
        dict.fromkeys(
            [
                *by_single,
                *_permuted(compound, mark),
                *_certainly_nested(counts, compound, mark),
            ]
        )
    )


def _permuted(compound: list[str], mark: str) -> list[str]:
    """Return labels that hold the same words in another order; all, if the words are those of a ring of labels.

    ``cat dog`` and ``dog cat`` are hardly two classes. Neither are ``cat dog``, ``dog bird`` and ``bird cat``: there
    are no more words than labels, each is in several labels, and some stand first here and last there. In ``red car``,
    ``red truck``, ``blue car`` and ``blue truck``, none does.
    """
    ordered = {label: [part.casefold() for part in _parts(label, mark)] for label in compound}
    if all(part.isdigit() for words in ordered.values() for part in words) and mark != " ":
        return []  # 1/2 and 2/1
    same = Counter(tuple(sorted(words)) for words in ordered.values())
    twins = [label for label, words in ordered.items() if same[tuple(sorted(words))] > 1]
    frequency = Counter(word for words in ordered.values() for word in set(words))
    first, last = {words[0] for words in ordered.values()}, {words[-1] for words in ordered.values()}
    is_ring = 2 < len(compound) >= len(frequency) and min(frequency.values()) > 1 and bool(first & last)
    return compound if is_ring else twins


def _nested(counts: Counter[str], compound: list[str], mark: str) -> tuple[list[str], list[str]]:
    """Return labels of several words that several others contain and extend, and those others.

    ``clear primary`` is contained in ``clear primary road`` and ``clear primary water``. Names of species that end with
    that of their genus (``sea lion``, ``california sea lion``) are no sign, nor are labels with many words.
    """
    parts = {label: _parts(label, mark) for label in compound}
    single = {label for label in counts if label not in parts}
    if len(single.union(*parts.values())) > len(counts) + 1:
        return [], []
    inner: list[str] = []
    outer: dict[str, None] = {}
    for label, words in parts.items():
        wider = [other for other, others in parts.items() if set(words) < set(others)]
        if len(wider) > 1 and any(parts[other][-len(words) :] != words for other in wider):
            inner.append(label)
            outer |= dict.fromkeys(wider)
    return inner, list(outer)


def _certainly_nested(counts: Counter[str], compound: list[str], mark: str) -> list[str]:
    """Return nested labels if they are several, or share words with labels that they are not within.

    ``golden retriever``, ``golden retriever puppy`` and ``golden retriever adult`` may be classes. The words of ``clear
    primary`` are in ``haze primary`` too, without each other, as those of combined labels are.
    """
    inner, outer = _nested(counts, compound, mark)
    words = {word for label in inner for word in _parts(label, mark)}
    shared = any(words & set(_parts(label, mark)) for label in compound if label not in (*inner, *outer))
    return [*inner, *outer] if len(inner) > 1 or shared else []


def _shell(mark: str) -> str:
    """Return a separator as an argument of a command."""
    if mark.isspace() and mark != " ":
        return f"$'{mark.encode('unicode_escape').decode()}'"
    return mark if mark in "_+/" else f"'{mark}'"


def _parts(label: str, mark: str) -> list[str]:
    return [part.strip() for part in label.split(mark) if part.strip()]


def _raise_several(
    file: Path, places: Sequence[str], labels: Sequence[str], found: list[str], mark: str | None
) -> None:
    names = _HARD | _SPACED | _SOFT
    name = "written as lists" if mark is None else f"separated by {names[mark]}"
    # A hyphen on its own would be read as the beginning of an option.
    option = "--multi-label" if mark is None else f"--label-separator{'=' if mark == '-' else ' '}{_shell(mark)}"
    wanted = set(found)
    place, example = next((place, label) for place, label in zip(places, labels, strict=True) if label in wanted)
    rows = sum(label in wanted for label in labels)
    raise DataError(
        f'{rows} of {len(labels)} rows of {file} seem to have several labels, {name} ("{example}" in {place}); read '
        f"them as labels with {option}, or keep each combination as one class with --label-separator none"
    )
