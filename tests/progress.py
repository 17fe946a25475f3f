"""Progress reporters that tests look at."""

from __future__ import annotations

from triscale.progress import NullProgress


class RecordedNotes(NullProgress):
    """Keeps what a job notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
