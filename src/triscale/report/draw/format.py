"""Numbers and names formatted for readers."""

from __future__ import annotations

import math
import unicodedata

TIMES = "\N{MULTIPLICATION SIGN}"
ABSENT = "\N{EN DASH}"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def si(value: float | None) -> str:
    """Return an amount with three significant digits and an SI suffix: ``2960000`` is ``"2.96M"``."""
    if value is None:
        return ABSENT
    if float(value).is_integer() and abs(value) < 1000:
        return str(int(value))
    digits, suffix = _three_digits(value, ("", "k", "M", "G", "T", "P"))
    return digits + suffix


def size(num_bytes: float | None) -> str:
    """Return a size in decimal units: ``1230000`` bytes are ``"1.23 MB"``."""
    if num_bytes is None:
        return ABSENT
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    return " ".join(_three_digits(num_bytes, ("B", "kB", "MB", "GB", "TB")))


def share(value: float | None) -> str:
    """Return a share as a percentage: ``0.978`` is ``"97.8%"``; only 0 and 1 themselves are shown as 0% and 100%.

    Example:
        >>> share(0.978), share(0.9999), share(1.0)
        ('97.8%', '> 99.9%', '100%')
    """
    if value is None:
        return ABSENT
    if value in (0, 1):
        return f"{value * 100:.0f}%"
    text = f"{value * 100:.1f}"
    if text == "0.0":
        return "< 0.1%"
    return "> 99.9%" if text == "100.0" and value < 1 else f"{text}%"


def grouped(value: int | None) -> str:
    """Return a whole number with its thousands separated: ``"12,345"``."""
    return ABSENT if value is None else f"{value:,}"


def milliseconds(value: float | None, unit: bool = True) -> str:
    """Return a duration with three significant digits: ``"12.3 ms"``, or without its unit for a table."""
    if value is None:
        return ABSENT
    return number(value) + " ms" * unit


def number(value: float | None) -> str:
    """Return a number with three significant digits, in scientific notation if it is far from 1."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 1e6 or abs(rounded) < 1e-3:
        mantissa, exponent = f"{rounded:.1e}".split("e")
        return f"{mantissa} {TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    if abs(rounded) >= 1000:
        return f"{value:,.0f}"
    return f"{rounded:#.3g}".rstrip(".")


def times(value: float) -> str:
    """Return a multiplier with its sign: ``1.21`` is shown as times 1.21."""
    return f"{TIMES}{value:.2f}"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with two significant digits: ``0.0123`` is ``"1.2"``."""
    return f"{100 * value:#.2g}".rstrip(".")


def unbroken(text: str) -> str:
    """Return a text without line breaks, such as a number and its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def columns(text: str) -> int:
    """Return the width of a text in columns of a fixed-width font; East Asian wide characters take two columns."""
    return sum(_columns_of(char) for char in text)


def shorten(text: str, limit: int) -> str:
    """Return a text on one line of at most ``limit`` columns, with an ellipsis where it was cut."""
    line = " ".join(text.split()) or "(no name)"
    if columns(line) <= limit:
        return line
    kept, used = "", 0
    for char in line:
        used += _columns_of(char)
        if used > limit - 1:
            break
        kept += char
    return kept.rstrip() + "…"


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _three_digits(value: float, units: tuple[str, ...]) -> tuple[str, str]:
    step, scaled = 0, float(value)
    while abs(float(f"{scaled:.3g}")) >= 1000 and step < len(units) - 1:
        scaled /= 1000
        step += 1
    if abs(float(f"{scaled:.3g}")) >= 1000:
        return f"{scaled:,.0f}", units[step]
    if scaled and abs(math.log10(abs(scaled))) > 4:
        return number(scaled), units[step]
    return f"{scaled:#.3g}".rstrip("."), units[step]
