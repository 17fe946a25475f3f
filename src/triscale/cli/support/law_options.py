"""The options of a scaling law: which one, and how it rounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, get_args

from cyclopts import Parameter

from triscale.errors import UserError, nearest
from triscale.families.find import find_law
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.named_laws import NAMED_LAWS, law_argument
from triscale.scaling.piecewise import AnyLaw, with_rounding
from triscale.scaling.rounding import Direction, ScaleRounding

DEFAULT_LAW = law_argument(EFFICIENTNET)
DIRECTIONS = get_args(Direction)
ROUNDED = ("width", "depth", "resolution")
MULTIPLES = ("width", "resolution")
MAX_MULTIPLE = 1024

LawOption = Annotated[
    str,
    Parameter(
        name="--law",
        help=f"A name ({', '.join(NAMED_LAWS)}), alpha,beta,gamma, a JSON file of a law, or the folder of a search.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LawFlags:
    """Options of a scaling law.

    Parameters
    ----------
    rounding
        nearest or up, or by dimension, such as width=up,depth=nearest,resolution=up; by default as the law says.
    multiple
        What widths are multiples of, or width=16,resolution=32 (pixels); by default as the law says.
    """

    law: LawOption = DEFAULT_LAW
    rounding: str | None = None
    multiple: str | None = None

    def chosen(self) -> AnyLaw:
        """Return the law with its rounding.

        Raises:
            UserError: The law is unknown, or the rounding cannot be read.
        """
        law = find_law(self.law)
        return with_rounding(law, self.changed(law.rounding))

    def changed(self, rounding: ScaleRounding) -> ScaleRounding:
        """Return a rounding with what the options change.

        Raises:
            UserError: The options cannot be read.
        """
        changes: dict[str, object] = {}
        for name, value in _by_dimension("--rounding", self.rounding, ROUNDED, ROUNDED).items():
            if value not in DIRECTIONS:
                hint = nearest(value, DIRECTIONS) or f"; give {' or '.join(DIRECTIONS)}"
                raise UserError(f'--rounding "{value}" is not a direction{hint}')
            changes[name] = value
        for name, value in _by_dimension("--multiple", self.multiple, MULTIPLES, ("width",)).items():
            if not re.fullmatch(r"\d{1,4}", value) or not 1 <= int(value) <= MAX_MULTIPLE:
                raise UserError(
                    f'--multiple "{value}" is not a whole number from 1 to {MAX_MULTIPLE:,}; give one such as 8'
                )
            changes[f"{name}_multiple"] = int(value)
        return rounding.replace(**changes) if changes else rounding


LAW_DEFAULTS = LawFlags()
_COEFFICIENTS = re.compile(r"\s*[\d.]+\s*,\s*[\d.]+\s*,\s*[\d.]+\s*")


def named_laws(texts: tuple[str, ...], flags: LawFlags) -> dict[str, AnyLaw]:
    """Return the laws of ``--laws`` by name, with the rounding of the options.

    Args:
        texts: Names or files, also several in one text, separated by commas; ``all`` for every named law.
        flags: ``--rounding`` and ``--multiple``.

    Raises:
        UserError: A law is unknown or named twice.

    Example:
        >>> list(named_laws(("paper,dwr", "tinynet"), LAW_DEFAULTS))
        ['paper', 'dwr', 'tinynet']
    """
    words = [word.strip() for text in texts for word in ([text] if _COEFFICIENTS.fullmatch(text) else text.split(","))]
    if words == ["all"]:
        words = list(NAMED_LAWS)
    laws: dict[str, AnyLaw] = {}
    for word in words:
        law = find_law(word)
        name = word if word in NAMED_LAWS else str(law)
        if name in laws:
            raise UserError(f'--laws names "{name}" twice; give each law once')
        laws[name] = with_rounding(law, flags.changed(law.rounding))
    return laws


def _by_dimension(option: str, text: str | None, known: tuple[str, ...], plain: tuple[str, ...]) -> dict[str, str]:
    """Parse ``width=up,depth=nearest``; a value without a dimension is that of the ``plain`` ones."""
    if text is None:
        return {}
    if "=" not in text:
        return dict.fromkeys(plain, text.strip())
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in known or name in values:
            raise UserError(
                f'{option} "{text}" cannot be read; write each of {", ".join(known)} at most once, such as '
                f"{known[0]}={'16' if option == '--multiple' else 'up'}"
            )
        values[name] = value
    return values
