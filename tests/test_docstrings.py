"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import pytest

import triscale

PACKAGE = Path(__file__).parent.parent / "src" / "triscale"
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if "\n        >>> " in path.read_text()
                 or "\n    >>> " in path.read_text()]  # fmt: skip


def test_every_package_has_examples():
    packages = {path.relative_to(PACKAGE).parts[0] for path in WITH_EXAMPLES}
    assert {"network", "nn", "data", "training"} <= packages


def test_public_names_are_documented_in_full():
    """Every exported class has an example; every exported function also names its arguments and its result."""
    missing = []
    for name in triscale.__all__:
        item = getattr(triscale, name)
        text = inspect.getdoc(item) or ""
        sections = ["Example:"] if inspect.isclass(item) or inspect.isfunction(item) else []
        if inspect.isclass(item) and issubclass(item, triscale.TriscaleError):
            sections = ["Example:"] if item is triscale.TriscaleError else []
        if inspect.isfunction(item):
            sections += ["Returns:"] + ["Args:"] * bool(inspect.signature(item).parameters)
        missing += [f"{name}: {section}" for section in sections if section not in text]
    assert missing == []


SLOW = {"api/measurements.py", "api/run.py"}
"""Their examples measure latency or export for seconds, as other tests do."""


def cases() -> list[object]:
    # Those of the XLA engine need JAX, and run in tests/xla.
    names = [str(path.relative_to(PACKAGE)) for path in WITH_EXAMPLES if "xla" not in path.parts]
    return [pytest.param(name, marks=[pytest.mark.stress] * (name in SLOW), id=name) for name in names]


@pytest.mark.parametrize("name", cases())
def test_examples_run(name, request, tmp_path, monkeypatch):
    path = PACKAGE / name
    if any(word in path.read_text() for word in ("photos", "runs/")):
        trained_run = request.getfixturevalue("trained_run")
        shutil.copytree(trained_run.parent / "images", tmp_path / "photos")
        shutil.copytree(trained_run, tmp_path / "runs" / "photos")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(("triscale", *path.relative_to(PACKAGE).with_suffix("").parts)))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
