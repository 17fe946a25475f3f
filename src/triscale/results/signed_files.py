"""What the check of a signature found."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record


class SignedFiles(Record):
    """A run, folder or file compared with its signature.

    Attributes:
        path: The run, folder or file.
        signature: The file of the signature.
        count: Number of signed files; 0 if the signature is not valid.
        changed: Signed files whose content is another one now.
        added: Files that are not signed, though all of the folder were.
        missing: Signed files that are gone.
        invalid: Why the signature is not valid for the key; empty if it is.
    """

    kind_name: ClassVar[str] = "signed_files"

    path: str
    signature: str
    count: int
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    invalid: str = ""

    @property
    def passed(self) -> bool:
        """Whether the signature is valid and all files are as they were signed."""
        return not (self.invalid or self.changed or self.added or self.missing)

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs, each as a phrase."""
        named = (("was changed", self.changed), ("was added", self.added), ("is missing", self.missing))
        return tuple(f"{file} {what}" for what, files in named for file in files)
