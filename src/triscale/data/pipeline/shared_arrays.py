"""Store many strings in two blocks of memory, which processes share after a fork."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np


class StringArray:
    """An array of strings, in one block of UTF-8 and one of offsets.

    ::

        content:  cat.pngdog.png
        ends:     0      7      14

    A list would need one object per string. A forked process that reads a string writes to its reference count, so in
    the end every process would have its own copy of all pages.

    Example:
        >>> names = StringArray(["cat.png", "dog.png"])
        >>> len(names), names[1]
        (2, 'dog.png')
    """

    def __init__(self, strings: Iterable[str]) -> None:
        content, ends = bytearray(), array("q", [0])
        for string in strings:
            content += string.encode("utf-8", "surrogateescape")
            ends.append(len(content))
        self._content = bytes(content)
        self._ends = np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} strings")
        return self._content[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")

    @property
    def num_bytes(self) -> int:
        """Memory that the strings take, in bytes."""
        return len(self._content) + self._ends.nbytes
