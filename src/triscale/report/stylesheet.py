"""The style sheet of a report: ``style.css``, the colors of figures, and fallbacks for strict programs."""

from __future__ import annotations

import re
from importlib import resources

from triscale.report.draw.palette import color_rules

_LIGHT = re.compile(r":root \{(.*?)\n\}", re.DOTALL)
_DEFINITION = re.compile(r"(--[\w-]+): ([^;]+);")
_DECLARATION = re.compile(r"(?<![\w-])([a-z][\w-]*):\s*([^;{}]*var\([^;{}]*?)(?=\s*[;}])")
_USE = re.compile(r"var\((--[\w-]+)\)")


def stylesheet() -> str:
    """Return the style sheet of a report.

    Every declaration with a CSS variable follows one with the value of the light color scheme, because previews of
    e-mail clients drop declarations with variables.
    """
    written = resources.files("triscale.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return with_fallbacks(f"{written.rstrip()}\n{color_rules()}\n")


def with_fallbacks(css: str) -> str:
    r"""Return a style sheet with a fallback before each declaration that uses a variable of its first ``:root``.

    Args:
        css: The style sheet.

    Example:
        >>> print(with_fallbacks(":root {\n  --ink: black;\n}\np { color: var(--ink) }"))
        :root {
          --ink: black;
        }
        p { color: black; color: var(--ink) }
    """
    root = _LIGHT.search(css)
    values = dict(_DEFINITION.findall(root[1])) if root else {}

    def both(match: re.Match[str]) -> str:
        plain = _USE.sub(lambda use: values.get(use[1], use[0]), match[2])
        return match[0] if "var(" in plain else f"{match[1]}: {plain}; {match[0]}"

    return _DECLARATION.sub(both, css)
