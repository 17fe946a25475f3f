"""What a user writes into a generated card: kept when the card is generated again, if it stands in its places.

A card has places for a user's text between two comments, which are not shown where it is rendered::

    <!-- your text: intended use -->
    ...
    <!-- end of your text -->

Its last line is a comment with a digest of everything outside these places, so that other edits are noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_HINT = "<!-- What you write here is kept when the card is generated again. -->"
_END = "<!-- end of your text -->"
_PLACE = re.compile(rf"(<!-- your text: ([a-z ]+) -->\n)(.*?)(?:\n)?({re.escape(_END)})", re.DOTALL)
_SEAL = re.compile(r"\n<!-- triscale card (\{.*\}) -->\s*\Z")


def place(name: str) -> str:
    """Return an empty place for a user's text.

    Args:
        name: What the text is about.
    """
    return f"<!-- your text: {name} -->\n{_HINT}\n{_END}"


def own_texts(card: str) -> dict[str, str]:
    """Return the texts of a user in a card, by what they are about.

    Example:
        >>> own_texts(place("risks").replace(_HINT, "Hi."))
        {'risks': 'Hi.'}
    """
    return {found[2]: found[3] for found in _PLACE.finditer(_lines(card))}


def with_own_texts(card: str, texts: dict[str, str]) -> str:
    """Return a card with the texts of a user in their places; a text without its place stands at the end.

    Args:
        card: A card without its last line.
        texts: What :func:`own_texts` returned for the card before.
    """
    known = set(own_texts(card))
    extra = "".join(f"\n\n{place(name)}" for name, text in texts.items() if name not in known and text != _HINT)
    return _PLACE.sub(lambda found: f"{found[1]}{texts.get(found[2], found[3])}\n{found[4]}", card.rstrip() + extra)


def sealed(card: str, options: dict[str, Any]) -> str:
    """Return a card with its last line.

    Args:
        card: The card without it.
        options: With what the card was generated.
    """
    seal = json.dumps({**options, "sha256": _digest(card)})
    return f"{card.rstrip()}\n\n<!-- triscale card {seal} -->\n"


def options_of(card: str) -> dict[str, Any] | None:
    """Return with what a card was generated; None if it was edited outside of the places, or is another file.

    Args:
        card: The content of the file.
    """
    text = _lines(card)
    found = _SEAL.search(text)
    if found is None:
        return None
    try:
        options = json.loads(found[1])
    except json.JSONDecodeError:
        return None
    if options.pop("sha256", None) != _digest(text[: found.start()]):
        return None
    return dict(options)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _digest(card: str) -> str:
    """Return the digest of a card without a user's texts."""
    return hashlib.sha256(_PLACE.sub(r"\1\4", _lines(card)).strip().encode()).hexdigest()
