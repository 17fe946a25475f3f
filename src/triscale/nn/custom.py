"""Custom models: import and build."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from triscale.errors import NetworkError
from triscale.network.custom import CustomNetwork
from triscale.nn.libraries import LIBRARIES, library_function


def build_custom(network: CustomNetwork) -> nn.Module:
    """Call the function of a custom model and return its module.

    Raises:
        NetworkError: The function cannot be imported, does not take ``depth``, ``width`` and ``classes``, raises an
            exception, or does not return a module.
    """
    function = _imported(network)
    arguments: dict[str, Any] = {"depth": network.depth, "width": network.width, "classes": network.classes}
    channels, *image_size = network.input_shape
    more = {"in_channels": channels, "image_size": tuple(image_size)}
    arguments |= {name: value for name, value in more.items() if _takes(function, name)}
    _check_arguments(network, function, arguments)
    try:
        built = function(**arguments)
    except NetworkError:
        raise
    # The function is the user's, and may raise anything.
    except Exception as error:
        raise failure(network, "cannot be built", error) from error
    if not isinstance(built, nn.Module):
        raise NetworkError(f"{network.function} returned a {type(built).__name__}; expected a torch.nn.Module")
    return built


def failure(network: CustomNetwork, what: str, error: BaseException) -> NetworkError:
    """Return the error of a custom model that has raised an exception of its own, with the line that raised it.

    Args:
        network: The custom model.
        what: What failed, such as ``"cannot be built"``.
        error: What was raised.
    """
    size = f"depth {network.depth:.4g}, width {network.width:.4g}, {network.size} px"
    reason = str(error).strip().partition("\n")[0].rstrip(".") or "no message"
    return NetworkError(
        f"{network.function} {what} at {size}: {type(error).__name__}: {reason}{_line_of(network, error)}"
    )


def _line_of(network: CustomNetwork, error: BaseException) -> str:
    """Return the innermost line of the user's files that an exception passed: not of installed packages or of ours."""
    module = sys.modules.get(network.function.partition(":")[0])
    folder = str(Path(getattr(module, "__file__", None) or ".").resolve().parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if str(Path(frame.filename).resolve()).startswith(folder):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def _imported(network: CustomNetwork) -> Callable[..., Any]:
    module_name, _, function_name = network.function.partition(":")
    if module_name in LIBRARIES:
        return library_function(module_name, function_name)
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"cannot find {network.function} ({error}); expected package.module:function, importable from this folder"
        ) from error
    # The module is the user's, and may raise anything.
    except Exception as error:
        raise failure(network, "cannot be imported", error) from error
    return function


def _check_arguments(network: CustomNetwork, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise NetworkError(
            f"{network.function} cannot be called as build(depth=..., width=..., classes=...): {error}"
        ) from error
    except ValueError:  # a function without a signature, such as one of C; calling it tells
        return


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
