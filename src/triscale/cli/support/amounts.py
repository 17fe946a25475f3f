"""Parse shares and large numbers."""

from __future__ import annotations

import re

from cyclopts import ArgumentCollection, CycloptsError

from triscale.errors import UserError
from triscale.scaling.law import MAX_MULTIPLIER

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:b|px|pixels)?", re.I)
_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def number_of(option: str, text: str) -> int:
    """Return a whole number such as 1000, 250M or 1GB.

    Raises:
        UserError: The text is not a number of 1 or more.

    Example:
        >>> number_of("--max-pixels", "61.5M"), number_of("--max-file-size", "2 GB")
        (61500000, 2000000000)
    """
    matched = _NUMBER.fullmatch(text.strip())
    value = round(float(matched[1]) * _THOUSANDS[matched[2].lower()]) if matched else 0
    if value < 1:
        raise UserError(f'{option} "{text}" is not a number of 1 or more; give one such as 1000, 250M or 1GB')
    return value


def share_of(option: str, text: str) -> float:
    """Return a share such as 10% or 0.1.

    Raises:
        UserError: The text is not a share from 0 to less than 1.

    Example:
        >>> share_of("--margin", "10%"), share_of("--margin", "0.25")
        (0.1, 0.25)
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share < 1:
        raise UserError(f'{option} "{text}" is not a share; give one such as 10% or 0.1')
    return share


def percentage(share: float) -> str:
    """Return a share that was given by a user, in as few digits as it has.

    Example:
        >>> percentage(0.9), percentage(0.975)
        ('90%', '97.5%')
    """
    return f"{100 * share:.6g}%"


def multiplier_of(option: str, value: float) -> float:
    """Return a multiplier of depth, width or resolution.

    Raises:
        UserError: The value is not a number above 0 and up to 1,000.

    Example:
        >>> multiplier_of("--width", 1.1)
        1.1
    """
    if not 0 < value <= MAX_MULTIPLIER:
        raise UserError(f"{option} {value:g} is not a multiplier; give a number above 0, up to 1,000, such as 1.2")
    return value


def refuse_fractions(arguments: ArgumentCollection) -> None:
    """Refuse fractions where a whole number is expected: cyclopts rounds 2.5 to an integer without a word.

    Args:
        arguments: The options or positional arguments of a command.

    Raises:
        CycloptsError: A value is a fraction.
    """
    for argument in arguments:
        values = argument.value if isinstance(argument.value, tuple | list) else (argument.value,)
        if not any(type(value) is int for value in values):
            continue
        for token in argument.tokens:
            if "." in token.value and not float(token.value).is_integer():
                raise CycloptsError(msg=f"{argument.name} {token.value} is not a whole number; give one such as 3")
