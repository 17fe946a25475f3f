"""The commands ``card`` and ``sign``, for a run that is passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from triscale.cli.support.options import Json, OptionalOut
from triscale.cli.support.terminal import console, counted, print_json


def card(
    run: Annotated[Path, Parameter(help="The folder of a run.")],
    /,
    *,
    out: OptionalOut = None,
    license: str | None = None,
    watts: float | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the model card of a run: what it is, how to use it, its data, training, results, limits and licenses.

    The card is Markdown with a header for the Hugging Face Hub. What you write between its comments "your text" is kept
    when the card is generated again, and so are --license and --watts.

    Parameters
    ----------
    out
        The file; by default README.md in the run.
    license
        License of your network as an SPDX identifier such as apache-2.0.
    watts
        Mean power of the machine during the training, for an estimate of the energy.
    force
        Replace a card that was edited outside of the places for your text.
    """
    from triscale.jobs.core.run import RunFolder
    from triscale.jobs.reports.model_card import write_card

    print(write_card(RunFolder.open(run), out, license=license, watts=watts, force=force))


def sign(
    path: Annotated[Path, Parameter(help="The folder of a finished run, or an exported file.")],
    /,
    *,
    key: Path,
    json: Json = False,
) -> None:
    """Sign a run or a file with a private key, in the format of OpenSSF Model Signing.

    The signature of a run is model.sig in its folder; that of a file is next to it. Verify it with: triscale verify RUN
    --signature --key PUB.pem. A change of the run, such as an evaluation or an export, needs a new signature.

    Parameters
    ----------
    key
        A private key for ECDSA in PEM; TRISCALE_KEY_PASSWORD in the environment decrypts it.
    """
    from triscale.jobs.verification.signature import sign as sign_path

    signed = sign_path(path, key)
    if json:
        print_json(signed)
        return
    console.print(f"{counted(signed.count, 'file')} signed in {signed.signature}", markup=False, soft_wrap=True)
