"""The tree of exceptions."""

from __future__ import annotations

import inspect
import re

import pytest

from triscale import errors
from triscale.errors import JobError, TriscaleError, UserError, nearest

CLASSES = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, TriscaleError)
}


def test_exception_tree_in_docstring_matches():
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        result = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)\b", line)
        if result is None:
            continue
        depth = len(result[1]) // 4 + ("──" in line)
        above[depth:] = [result[2]]
        drawn[result[2]] = above[depth - 1] if depth else None
    real = {name: None if cls is TriscaleError else cls.__bases__[0].__name__ for name, cls in CLASSES.items()}
    assert drawn == real


@pytest.mark.parametrize("cls", CLASSES.values())
def test_exit_codes_match_exceptions(cls):
    if cls.__name__ == "Interrupted":
        assert cls.exit_code == 143
    else:
        assert cls.exit_code == (2 if issubclass(cls, UserError) else 1)


@pytest.mark.parametrize("cls", CLASSES.values())
def test_user_errors_are_value_errors(cls):
    assert issubclass(cls, ValueError) == issubclass(cls, UserError)
    assert issubclass(cls, RuntimeError) == issubclass(cls, JobError)


def test_nearest_names_are_suggested():
    assert nearest("resnet5O", ["resnet50", "resnet18", "vgg"]) == "; did you mean resnet50, resnet18?"
    assert nearest("ResNet50", ["resnet50"]) == "; did you mean resnet50?"
    assert nearest("xyz", ["resnet50"]) == ""
