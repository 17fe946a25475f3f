"""What a run has to be passed on: verification, report, model card and signature."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import UserError
from triscale.jobs.core.execution import execution
from triscale.jobs.core.run import RunFolder
from triscale.jobs.reports.model_card import write_card
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.run_source import RunSource
from triscale.jobs.verification.signature import check_signature, sign
from triscale.jobs.verification.verify import verify_run
from triscale.results.signed_files import SignedFiles
from triscale.results.verification import Verification


class RunDocuments:
    """The methods of :class:`triscale.Run` that are about its directory."""

    _folder: RunFolder
    _source: RunSource

    def verify(
        self, *, epochs: int = 1, steps: int = 0, images: str | Path | None = None, device: str = "auto",
        progress: bool = True,
    ) -> Verification:  # fmt: skip
        """Train a part of the run again, evaluate and export it again, and compare all with what it holds.

        Args:
            epochs: Number of epochs to train again: the last one, and more from the first one on.
            steps: Number of steps to train again from the checkpoint before the last one.
            images: Where the images of the run are now, if they have moved.
            device: ``auto``, ``cpu`` or ``cuda``.
            progress: Whether progress is shown on standard error.

        Raises:
            UserError: A number is negative, or these are weights without a run.
            Interrupted: Ctrl-C or SIGTERM was received.
        """
        self._require_directory("verify")
        with execution(device, progress=progress) as context:
            place = None if images is None else str(images)
            return verify_run(self._folder, context, epochs=epochs, steps=steps, images=place)

    def report(self) -> Path:
        """Write the report again, and return its HTML file."""
        if self._source.weights is not None:
            raise UserError(
                f"{self._source.reference} is weights, whose report has no place; make a run of them with: "
                "Run.of_weights(weights, images, out=...)"
            )
        with self._folder.update():
            return write_run_report(self._folder)

    def card(
        self, out: str | Path | None = None, *, license: str | None = None, watts: float | None = None,
        force: bool = False,
    ) -> Path:  # fmt: skip
        """Write the model card, and return its Markdown file; what a user wrote into its places is kept.

        Args:
            out: The file; by default ``README.md`` in the directory.
            license: SPDX identifier of the license of the network; by default that of the card before.
            watts: Mean power of the machine during the training, for an estimate of the energy; likewise.
            force: Whether to replace a card that was edited outside of the places for a user's text.

        Raises:
            UserError: The card was edited elsewhere, a value is not valid, or these are weights without a run.
        """
        self._require_directory("card")
        return write_card(self._folder, None if out is None else Path(out), license=license, watts=watts, force=force)

    def sign(self, key: str | Path) -> SignedFiles:
        """Sign the files of the run, into its file ``model.sig``.

        Args:
            key: A private key for ECDSA in PEM.

        Raises:
            UserError: The extra ``sign`` is not installed, the key cannot be read, or these are weights without a run.
            RunError: The training has not finished, or a file was changed after it was written.
        """
        self._require_directory("sign")
        return sign(self._folder.folder, Path(key))

    def verify_signature(self, key: str | Path, signature: str | Path | None = None) -> SignedFiles:
        """Compare the files of the run with its signature; ``passed`` of the result says whether they are the same.

        Args:
            key: The public key of the signer in PEM.
            signature: The signature, if it is not ``model.sig`` in the directory.

        Raises:
            UserError: The extra ``sign`` is not installed, there is no signature, or the key cannot be read.
        """
        self._require_directory("verify_signature")
        return check_signature(self._folder.folder, Path(key), None if signature is None else Path(signature))

    def _require_directory(self, method: str) -> None:
        if self._source.weights is not None:
            raise UserError(f"{self._source.reference} is weights; {method} needs the directory of a run")
