"""Imports of optional dependencies."""

from __future__ import annotations

import importlib
from typing import Any

from triscale.errors import UserError


def load(module: str, title: str, extra: str) -> Any:
    """Import a module of an optional dependency.

    Raises:
        UserError: It is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        if getattr(error, "name", name) not in (None, name, module):
            raise UserError(f"{title} is installed but cannot be loaded here: {error}") from error
        raise UserError(f"{title} is not installed; install it with: pip install 'triscale[{extra}]'") from None
