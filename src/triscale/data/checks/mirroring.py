"""Find classes that a mirror exchanges or changes: left and right, turning directions, digits and letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from triscale.data.checks.class_names import quoted

_PAIRS = (
    ("left", "right"), ("lft", "rgt"), ("lhs", "rhs"), ("port", "starboard"), ("clockwise", "counterclockwise"),
    ("clockwise", "anticlockwise"), ("forward", "backward"), ("forwards", "backwards"),
    ("links", "rechts"), ("linke", "rechte"), ("linker", "rechter"), ("linkes", "rechtes"), ("linksom", "rechtsom"),
    ("gauche", "droite"), ("gauche", "droit"), ("izquierda", "derecha"), ("izquierdo", "derecho"), ("izq", "der"),
    ("esquerda", "direita"), ("esquerdo", "direito"), ("sinistra", "destra"), ("sinistro", "destro"),
    ("lewo", "prawo"), ("lewa", "prawa"), ("lewy", "prawy"), ("vänster", "höger"), ("venstre", "høyre"),
    ("venstre", "højre"), ("vasen", "oikea"), ("kiri", "kanan"), ("лево", "право"), ("левый", "правый"),
    ("лівий", "правий"), ("左", "右"), ("왼쪽", "오른쪽"), ("يسار", "يمين"), ("sol", "sağ"), ("bal", "jobb"),
)  # fmt: skip
"""Words that a mirror exchanges, in lower case."""

_SHORT_PAIRS = (("l", "r"), ("li", "re"), ("cw", "ccw"), ("cw", "acw"), ("os", "od"), ("b", "d"), ("p", "q"),
                ("e", "w"), ("east", "west"), ("sx", "dx"))  # fmt: skip
"""Abbreviations; they count only where the rest of two names is the same."""

_SYMBOLS = (("<", ">"), ("←", "→"), ("⬅", "➡"), ("⇐", "⇒"), ("↖", "↗"), ("↙", "↘"), ("↩", "↪"), ("↶", "↷"),
            ("↺", "↻"), ("⟲", "⟳"), ("«", "»"), ("(", ")"), ("[", "]"), ("{", "}"), ("/", "\\"), ("👈", "👉"),
            ("☜", "☞"), ("◀", "▶"), ("◄", "►"))  # fmt: skip

_KINDS = {"digit", "letter", "number", "num", "char", "character", "glyph", "upper", "lower", "uppercase", "lowercase",
          "ziffer", "buchstabe", "chiffre", "lettre", "cifra", "letra"}  # fmt: skip
_DIGIT_WORDS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
_MIN_DIGIT_WORDS = 3


def mirrored_classes(classes: Sequence[str]) -> str | None:
    """Return which class names speak against mirroring the images, as the end of a sentence; None if none do.

    Example:
        >>> mirrored_classes(("arrow_left", "arrow_right", "stop"))
        'class names speak of left and right ("arrow_left", "arrow_right")'
        >>> mirrored_classes(("0", "1", "2"))
        'the classes are digits or letters (0, 1, 2)'
        >>> mirrored_classes(("cat", "dog")) is None
        True
    """
    characters = [name for name in classes if _is_character(name)]
    words = [name for name in classes if name.strip().lower() in _DIGIT_WORDS]
    found = characters if 2 * len(characters) >= len(classes) else words if len(words) >= _MIN_DIGIT_WORDS else []
    if found:
        return f"the classes are digits or letters ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
    pair = _exchanged(classes)
    return None if pair is None else f"class names speak of left and right ({', '.join(map(quoted, pair))})"


def _exchanged(classes: Sequence[str]) -> tuple[str, ...] | None:
    """Return two classes that a mirror exchanges, or one that alone speaks of left."""
    words = {name: _words(name) for name in classes}
    by_words = {found: name for name, found in words.items() if found}
    squashed = {"".join(found): name for name, found in words.items() if found}
    for name, found in words.items():
        for first, second in (*_PAIRS, *_SHORT_PAIRS):
            if first in found or second in found:
                other = by_words.get(tuple({first: second, second: first}.get(word, word) for word in found))
                if other is not None:
                    return name, other
        for first, second in _PAIRS:
            text = "".join(found)
            for old, new in ((second, first), (first, second)):
                other = squashed.get(text.replace(old, new)) if old in text else None
                if other is not None and other != name:
                    return name, other
        for first, second in _SYMBOLS:
            swapped = name.translate({ord(first): second, ord(second): first})
            if swapped != name and swapped in words:
                return name, swapped
    for first, second in _PAIRS:
        one, two = (next((name for name, found in words.items() if word in found), None) for word in (first, second))
        if one is not None and two is not None and one != two:
            return one, two
    return next(((name,) for name, found in words.items() if "left" in found), None)


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: at spaces, punctuation, digits and capitals."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return tuple(re.findall(r"[^\W\d_]+|\d+", spaced))


def _is_character(name: str) -> bool:
    """Return whether a name is one digit or letter, or says so: ``digit_3``."""
    words = _words(name)
    kinds, others = [word for word in words if word in _KINDS], [word for word in words if word not in _KINDS]
    single = len(others) == 1 and len(others[0]) == 1 and others[0].isalnum()
    return single and (bool(kinds) or len(name.strip()) == 1)
