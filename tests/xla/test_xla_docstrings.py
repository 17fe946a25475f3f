"""The examples in docstrings of the XLA engine run."""

import doctest
import importlib

import pytest

from test_docstrings import PACKAGE, WITH_EXAMPLES

PATHS = [path.relative_to(PACKAGE) for path in WITH_EXAMPLES if "xla" in path.parts]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_xla_examples_run(path):
    module = importlib.import_module(".".join(("triscale", *path.with_suffix("").parts)))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
