"""The import path of search spaces that scripts rely on; they live in :mod:`triscale.search.baseline.space`."""

from triscale.search.baseline.space import Space, around, make_space, mnasnet

__all__ = ["Space", "around", "make_space", "mnasnet"]
