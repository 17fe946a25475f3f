"""Parse durations and latencies."""

from __future__ import annotations

import re

from triscale.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s)\s*")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
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


def milliseconds_of(text: str) -> float | None:
    """Return the milliseconds of a latency such as 20ms or 0.5s; None if the text is not a latency.

    Raises:
        UserError: The latency is 0.
    """
    match = _SHORT.fullmatch(text)
    if match is None:
        return None
    milliseconds = float(match[1]) * _MILLISECONDS[match[2]]
    if milliseconds <= 0:
        raise UserError(f'the latency "{text.strip()}" must be more than 0 ms')
    return milliseconds
