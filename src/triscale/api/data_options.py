"""How a data set is read, as the public functions accept it; apart from the other arguments, since it needs Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triscale.data.options import DEFAULT_DATA, DataOptions

DataOptionsLike = DataOptions | Mapping[str, Any]
"""How a data set is read, or the fields of that which differ from the defaults."""


def as_data_options(data: DataOptionsLike | None) -> DataOptions:
    """Return how a data set is read, given as an object or as its fields; None for the defaults."""
    match data:
        case None:
            return DEFAULT_DATA
        case DataOptions():
            return data
        case _:
            return DataOptions.parse(dict(data), "the data options")
