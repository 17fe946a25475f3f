"""Many texts and numbers in a few blocks of memory, which processes share after a fork."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np


class StringArray:
    """An array of texts, in one block of UTF-8 and one of offsets.

    A list of strings would cost an object for each, and a forked process that reads one writes its reference count,
    so that in the end every process has a copy of all.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        content, ends = bytearray(), array("q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogateescape")
            ends.append(len(content))
        self._content = bytes(content)
        self._ends = np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"{index} of {len(self)} texts")
        return self._content[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")

    @property
    def num_bytes(self) -> int:
        """How much memory the texts take."""
        return len(self._content) + self._ends.nbytes
