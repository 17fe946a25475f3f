"""Words and identifiers that code and documents avoid."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORDS = (
    "foretold",
    "foretell",
    "foretells",
    "foretelling",
    "anew",
    "drawn by chance",
    "a person's own",
    "restless",
    "so manieth",
    "dearest",
    "frugality",
)
"""Whole words and phrases; what to write instead: predicted, again or from scratch, random, custom, noisy, ..."""
IDENTIFIERS = {"said", "told", "foretold", "anew", "frugality", "dearest"}
PATTERN = re.compile(rf"\b({'|'.join(map(re.escape, WORDS))})\b", re.IGNORECASE)


def test_avoided_words_are_absent():
    result = []
    for folder, endings in (("src", {".py", ".html", ".js", ".cpp"}), ("docs", {".md"})):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in endings:
                lines = enumerate(path.read_text().splitlines(), 1)
                result += [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines
                          if PATTERN.search(line)]  # fmt: skip
    assert result == []


def test_avoided_identifiers_are_absent():
    result = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                    if name in IDENTIFIERS:
                        result.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
                case _:
                    pass
    assert result == []
