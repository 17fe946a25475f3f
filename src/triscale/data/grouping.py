"""Which images belong together, as the options of a data set say it."""

from __future__ import annotations

import math
import re

from triscale.errors import DataError

NEAR_DUPLICATES, TIME = "near-duplicates", "time"
DEFAULT_GAP = 60.0
"""Seconds between two consecutive images of one group."""

_FORMS = f"time, time:SECONDS (such as time:{DEFAULT_GAP:g}) or {NEAR_DUPLICATES}"


def check_grouping(group: str | None, group_regex: str | None, group_by: str | None) -> None:
    r"""Check the options that group images.

    Args:
        group: A column of a table.
        group_regex: A regular expression for paths.
        group_by: ``time``, ``time:SECONDS`` or ``near-duplicates``.

    Raises:
        DataError: Several are given, or one is invalid.

    Example:
        >>> check_grouping(None, r"(patient\d+)_", None)
    """
    given = {"--group": group, "--group-regex": group_regex, "--group-by": group_by}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise DataError(f"{' and '.join(names)} both say which images form a group; give only one of them")
    if group == "":
        raise DataError("--group is empty; give the name or the number of a column of the table")
    if group_regex is not None:
        compile_regex(group_regex)
    if group_by is not None and group_by != NEAR_DUPLICATES:
        gap_seconds(group_by)


def compile_regex(text: str) -> re.Pattern[str]:
    r"""Return the regular expression of ``--group-regex``.

    Args:
        text: A regular expression of Python.

    Raises:
        DataError: It is not one.

    Example:
        >>> compile_regex(r"(cow-\d+)/").groups
        1
    """
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(
            f'--group-regex "{text}" is not a regular expression ({error}); expected one such as "(patient[0-9]+)_"'
        ) from error
    if not text:
        raise DataError('--group-regex is empty; expected a regular expression such as "(patient[0-9]+)_"')
    return pattern


def gap_seconds(group_by: str) -> float:
    """Return the gap of ``--group-by time``, in seconds.

    Args:
        group_by: ``time`` or ``time:SECONDS``.

    Raises:
        DataError: It has another form.

    Example:
        >>> gap_seconds("time"), gap_seconds("time:2.5")
        (60.0, 2.5)
    """
    name, colon, text = group_by.partition(":")
    if name == TIME and not colon:
        return DEFAULT_GAP
    try:
        seconds = float(text.strip().removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if name != TIME or not (math.isfinite(seconds) and seconds > 0):
        raise DataError(f'--group-by "{group_by}" is unknown; expected {_FORMS}')
    return seconds
