"""The page on inputs has a test for each situation, and each test that it cites exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "inputs.md"
HEADINGS = (
    "Layouts and splits", "Files", "Tables", "Labels", "Several labels", "Groups", "Imbalance", "Small data",
    "Sizes and shapes",
)  # fmt: skip
LEAST = 60
"""Rows that the page must have."""
LONGEST = 130
"""Characters of a cell of prose that is still read at a glance."""


def rows() -> list[list[str]]:
    """The cells of each row, without headings."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| situation |" not in line]


def cited(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def names_in(file: str) -> frozenset[str]:
    """The node names of the tests of a file, without parameters."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)]
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


def test_headings_are_those_of_the_page():
    assert tuple(re.findall(r"^## (.+)$", PAGE.read_text(), re.M)) == HEADINGS


def test_rows_are_complete_short_and_different():
    found = rows()
    assert len(found) >= LEAST
    assert {len(row) for row in found} == {4}
    assert [row[0] for row in found if not all(row)] == []
    assert [cell for row in found for cell in (row[0], row[2]) if len(cell) > LONGEST] == []
    repeated = Counter(row[0] for row in found)
    assert [name for name, number in repeated.items() if number > 1] == []


def test_reports_are_links_to_issues_that_they_name():
    link = re.compile(r"\[([\w.-]+/[\w.-]+)#(\d+)\]\(https://github\.com/([\w.-]+/[\w.-]+)/issues/(\d+)\)")
    for row in rows():
        if row[1] != "-":
            for one in row[1].split(", "):
                matched = link.fullmatch(one)
                assert matched, one
                assert matched.group(1, 2) == matched.group(3, 4), one


def test_every_row_cites_tests_that_exist():
    missing = []
    for row in rows():
        nodes = cited(row[3])
        assert nodes, f"no test: {row[0]}"
        for node in nodes:
            file, _, name = node.partition("::")
            if name not in names_in(file):
                missing.append(node)
    assert missing == []
