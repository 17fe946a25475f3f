"""All exceptions that Triscale raises on purpose.

::

    TriscaleError
    ├── UserError (also ValueError)       the request cannot be carried out as given: exit code 2
    │   ├── NetworkError                  a network that is unknown, inconsistent or cannot be read
    │   ├── BudgetError                   a budget that cannot be parsed or met
    │   ├── RecordError                   a file that is not the record it should be, or of a newer schema
    │   ├── RecipeError                   a recipe that is unknown or cannot be followed on this machine
    │   ├── DataError                     images that cannot be trained on or read
    │   ├── WeightsError                  weights that are unknown, cannot be read safely, or belong to another network
    │   ├── ExportError                   a model that an engine cannot take, or a file that cannot be run here
    │   ├── SearchError                   a search that has no candidates, or cannot be carried out as asked
    │   └── RunError                      a run directory that holds something else, or is in use
    └── JobError (also RuntimeError)      a job that failed although the request was valid: exit code 1
        ├── ParityError                   an exported file that does not compute what the model computes
        ├── QuantizationError             an int8 file that loses more accuracy than is allowed
        ├── CorruptionError               a value that changed in memory or on the disk without being written
        └── Interrupted                   stopped by a signal with everything saved: exit code 130 or 143

A message is one sentence or two: what was given, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TriscaleError(Exception):
    """Base of every exception that Triscale raises on purpose.

    Attributes:
        exit_code: Exit status of the command line.

    Example:
        >>> from triscale.families import get
        >>> try:
        ...     get("efficientnet_b99")
        ... except TriscaleError as error:
        ...     print(error)
        there is no network "efficientnet_b99"; did you mean ...?
    """

    exit_code = 1


class UserError(TriscaleError, ValueError):
    """The request cannot be carried out as given."""

    exit_code = 2


class NetworkError(UserError):
    """A network that is unknown, inconsistent or cannot be read."""


class BudgetError(UserError):
    """A budget that cannot be parsed or met."""


class RecordError(UserError):
    """A file that is not the record it should be."""


class RecipeError(UserError):
    """A recipe that is unknown or cannot be followed."""


class DataError(UserError):
    """Images that cannot be trained on or read."""


class WeightsError(UserError):
    """Weights that are unknown, cannot be read safely, or belong to another network."""


class ExportError(UserError):
    """A model that an engine cannot take, or a file that cannot be run here."""


class SearchError(UserError):
    """A search that has no candidates, or cannot be carried out as asked."""


class RunError(UserError):
    """A run directory that holds something else, or is in use."""


class JobError(TriscaleError, RuntimeError):
    """A job that failed although the request was valid."""


class ParityError(JobError):
    """An exported file that does not compute what the model computes."""


class QuantizationError(JobError):
    """An int8 file that loses more accuracy than is allowed."""


class CorruptionError(JobError):
    """A value that changed in memory or on the disk without being written: the same step gave two results."""


class Interrupted(JobError):  # noqa: N818 - it is no error of anyone's
    """Stopped by a signal; everything made so far is saved."""

    exit_code = 143


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean a, b?"`` for the choices close to what was given, or an empty string."""
    close = difflib.get_close_matches(given.lower(), list(choices), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else ""
