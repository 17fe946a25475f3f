"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "triscale"
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if "\n        >>> " in path.read_text()
                 or "\n    >>> " in path.read_text()]  # fmt: skip


def test_every_package_has_examples():
    packages = {path.relative_to(PACKAGE).parts[0] for path in WITH_EXAMPLES}
    assert {"network", "nn", "data", "training"} <= packages


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_run(path):
    module = importlib.import_module(".".join(("triscale", *path.relative_to(PACKAGE).with_suffix("").parts)))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
