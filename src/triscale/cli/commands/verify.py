"""The command ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, counted, print_json, table, visible
from triscale.errors import JobError, UserError

if TYPE_CHECKING:
    from triscale.results.verification import Verification


def verify(
    run: Annotated[Path, Parameter(help="The folder of a run; with --signature also an exported file.")],
    /,
    *,
    epochs: int | None = None,
    steps: int = 0,
    images: str | None = None,
    device: str = "auto",
    workers: int = 0,
    signature: Annotated[bool, Parameter(negative="")] = False,
    key: Path | None = None,
    signature_file: Path | None = None,
    json: Json = False,
) -> None:
    """Verify a run: train a part of it again, evaluate and export it again, and compare everything with what was kept.

    Files, checkpoints and images are compared by their digests, recipe and versions with the records. On the machine,
    versions and threads of the run all results must be bitwise equal; on others they may differ by a tolerance. The run
    is not changed. The exit code is 1 if a check failed.

    Parameters
    ----------
    epochs
        Number of epochs to train again: 1 is the last one, from the checkpoint before it, and more are those from the
        first one on. 0 trains nothing again. The default is 1, and 0 with --steps.
    steps
        Number of steps to train again from the checkpoint before the last one, for a quick test.
    images
        Where the images of the run are now, if they have moved.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    workers
        Processes that decode images.
    signature
        Only verify the signature that triscale sign wrote, with --key; nothing is trained again.
    key
        The public key of the signer in PEM, for --signature.
    signature_file
        The signature, if it is not where triscale sign wrote it.
    """
    if signature:
        _verify_signature(run, key, signature_file, json=json)
        return
    if key is not None or signature_file is not None:
        raise UserError("--key and --signature-file are for a signature; give --signature too, or leave them out")
    from triscale.jobs.core.run import RunFolder
    from triscale.jobs.verification.verify import verify_run

    repeated = epochs if epochs is not None else 0 if steps else 1
    with execution(device, workers=workers) as context:
        found = verify_run(RunFolder.open(run), context, epochs=repeated, steps=steps, images=images)
    if json:
        print_json(found)
    else:
        _print_verification(found)
    if not found.passed:
        failed = ", ".join(check.name for check in found.failed)
        raise JobError(
            f"{counted(len(found.failed), 'check')} of {run} failed ({failed}); restore the files from a copy, or "
            "train the run again in another folder"
        )


def _verify_signature(path: Path, key: Path | None, signature: Path | None, *, json: bool) -> None:
    from triscale.jobs.verification.signature import check_signature

    if key is None:
        raise UserError("--signature needs the public key of the signer; give it with --key PUB.pem")
    found = check_signature(path, key, signature)
    if json:
        print_json(found)
    if found.invalid:
        raise JobError(f"the signature {found.signature} is not valid for {key}: {found.invalid}")
    if not found.passed:
        raise JobError(
            f"{path} is not as it was signed: {', '.join(found.differences)}; if you changed it yourself, sign it again"
        )
    if not json:
        console.print(
            f"{path} is as it was signed: {counted(found.count, 'file')}, signature {found.signature}",
            markup=False,
            soft_wrap=True,
        )


def _print_verification(found: Verification) -> None:
    table(
        ("check", "outcome", "what"),
        [(visible(check.name), check.outcome, visible(check.detail)) for check in found.checks],
        left=3,
    )
    if found.passed:
        unchecked = sum(check.outcome == "not checked" for check in found.checks)
        also = f"; {counted(unchecked, 'check')} could not be made" if unchecked else ""
        how = (
            "within tolerance, since this machine or its software is another one" if found.differences else "bit by bit"
        )
        console.print(f"\n{found.run} is as it was recorded, {how}{also}", markup=False)
