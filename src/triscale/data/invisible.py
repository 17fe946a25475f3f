"""Find characters in a class name that nobody sees."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Persian, the scripts of India and emoji need these between two characters."""


def invisible_in(name: str) -> str | None:
    r"""Return the first invisible character of a name as a message names it; None if there is none.

    Args:
        name: A class name.

    Returns:
        The character's code and name: control characters, line breaks, and formatting such as a zero-width space.

    Example:
        >>> invisible_in("cat\u200b"), invisible_in("cat")
        ('U+200B ZERO WIDTH SPACE', None)
    """
    for index, character in enumerate(name):
        if unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp"):
            continue
        around = name[index - 1 : index] + name[index + 1 : index + 2]
        if character in _JOINERS and len(around) == 2 and not around.isascii():
            continue
        return f"U+{ord(character):04X} {unicodedata.name(character, 'CONTROL CHARACTER')}"
    return None
