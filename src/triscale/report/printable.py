"""Make untrusted text printable: the only module that cleans class names, file names and messages for reports."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar

from triscale.record import Record

# Neither HTML nor XML may hold control characters other than tab and newline, or half a surrogate pair, which is how
# Python reads a file name that is not UTF-8 (PEP 383).
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_PLAIN = {int, float, bool, type(None), bytes}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

T = TypeVar("T")


def printable(value: T) -> T:
    """Replace every character that a report cannot hold by U+FFFD, in all texts inside a value.

    Reports call this on their whole content before anything is drawn or filled into a template; escaping of HTML is
    left to the template engine.

    Args:
        value: A text, or a record, dataclass, tuple or dictionary of such values. Anything else is returned as it is.

    Returns:
        The value itself if it holds no such character.

    Example:
        >>> printable(("cat", "bell" + chr(7))) == ("cat", "bell" + chr(0xFFFD))
        True
    """
    return _printable(value)  # type: ignore[no-any-return]


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNPRINTABLE.sub(_REPLACEMENT, value)
    if isinstance(value, tuple):
        # A confusion matrix of 1000 classes holds a million numbers, so rows of numbers are returned unchanged.
        if set(map(type, value)) <= _PLAIN:
            return value
        items = [_printable(item) for item in value]
        return tuple(items) if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, Record):
        changes = _changes(value, type(value).model_fields)
        return value.replace(**changes) if changes else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = _changes(value, [field.name for field in dataclasses.fields(value)])
        return dataclasses.replace(value, **changes) if changes else value
    return value


def _changes(value: object, names: Any) -> dict[str, Any]:
    """Return the fields whose text had to be changed."""
    fields = {name: getattr(value, name) for name in names}
    cleaned = {name: _printable(field) for name, field in fields.items()}
    return {name: new for name, new in cleaned.items() if new is not fields[name] and new != fields[name]}
