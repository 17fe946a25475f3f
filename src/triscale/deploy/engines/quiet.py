"""Silence converters, and report their failures in one line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import torch

from triscale.errors import ExportError, TriscaleError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and Python output of converters."""
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def quiet_process() -> Iterator[None]:
    """Also suppress what compiled libraries write to the process's standard error."""
    sys.stderr.flush()
    saved_stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        with quiet():
            yield
    finally:
        os.dup2(saved_stderr, 2)
        os.close(saved_stderr)
        os.close(null)


FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    AttributeError,
    torch.onnx.OnnxExporterError,
)
"""What converters raise for unsupported models; NotImplementedError is a RuntimeError."""


@contextlib.contextmanager
def converting(who: str) -> Iterator[None]:
    """Silence a converter, and turn its failure into an error of one line.

    Args:
        who: The beginning of the sentence, such as "OpenVINO cannot convert the model".

    Raises:
        ExportError: The converter failed.
    """
    with quiet_process():
        try:
            yield
        except TriscaleError:
            raise
        except FAILURES as error:
            raise ExportError(f"{who}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none.

    Example:
        >>> first_line(ValueError("bad shape"))
        'bad shape'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
