"""Times as people write them and read them."""

from __future__ import annotations

import re

from triscale.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s)\s*")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of a time such as 90s, 30m, 2h, 1.5d or 1h30m.

    Raises:
        UserError: it is none.
    """
    parts = _TIME.findall(text.strip())
    if not parts or _TIME.sub("", text).strip():
        raise UserError(f'{option} "{text}" is no time; expected something like 90s, 30m, 2h or 1h30m')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"{option} {text} leaves no time; give more than 0")
    return seconds


def milliseconds_of(text: str) -> float | None:
    """Return the milliseconds of a latency such as 20ms or .5s; None for what is no time.

    Raises:
        UserError: no time at all.
    """
    found = _SHORT.fullmatch(text)
    if found is None:
        return None
    milliseconds = float(found[1]) * _MILLISECONDS[found[2]]
    if milliseconds <= 0:
        raise UserError(f'"{text.strip()}" leaves no time; give more than 0 ms')
    return milliseconds
