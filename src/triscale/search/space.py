"""The search spaces under the import path that scripts outside rely on; they live in :mod:`triscale.search.baseline`."""

from triscale.search.baseline.space import Space, around, make_space, mnasnet

__all__ = ["Space", "around", "make_space", "mnasnet"]
