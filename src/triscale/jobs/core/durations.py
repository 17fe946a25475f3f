"""Parse durations such as 90s or 1h30m."""

from __future__ import annotations

import re

from triscale.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of a duration such as 90s, 30m, 2h, 1.5d or 1h30m.

    Raises:
        UserError: The text is not a positive duration.
    """
    terms = _TIME.findall(text.strip())
    if not terms or _TIME.sub("", text).strip():
        raise UserError(f'{option} "{text}" is not a duration; give one such as 90s, 30m, 2h or 1h30m')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in terms)
    if seconds <= 0:
        raise UserError(f"{option} {text}: give a duration of more than 0")
    return seconds
