"""Sign a run or a file with a private key, and verify it with the public one, in the format of OpenSSF Model Signing.

The format: https://github.com/ossf/model-signing-spec. Signed are the names and SHA-256 of all files of a run but those
that change later without a change of the model: see :data:`UNSIGNED`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from triscale.errors import RunError, UserError
from triscale.jobs.core.run import LOCK, RunFolder
from triscale.jobs.verification.stored import check_files
from triscale.optional_import import load
from triscale.record import write_atomic
from triscale.results.signed_files import SignedFiles

UNSIGNED = (
    "model.sig", "manifest.json", "report.html", "README.md", "checkpoints", "tensorboard", "wandb", ".cache", LOCK,
)  # fmt: skip
"""Files and folders of a run that are not signed: the signature, what is written again or edited later (the manifest
lists the report), what resumes a training, and what belongs to a tracker or a download."""
PASSWORD = "TRISCALE_KEY_PASSWORD"
"""Environment variable with the password of an encrypted private key."""
_WHOLE = "."
"""How the format names the content of a single file."""


def sign(path: Path, key: Path) -> SignedFiles:
    """Sign a run, a folder or a file.

    Args:
        path: A finished run; or an exported file or folder, whose signature is written next to it, with the suffix
            ``.sig``.
        key: A private key for ECDSA in PEM (NIST P-256, P-384 or P-521); ``$TRISCALE_KEY_PASSWORD`` decrypts it.

    Raises:
        UserError: The package is not installed, the key cannot be read, or there is nothing to sign.
        RunError: The run is not finished, is in use, or is not as it was written.
    """
    signing = load("model_signing", "OpenSSF Model Signing", "sign")
    password = os.environ.get(PASSWORD)
    _check_exists(path)
    try:
        config = signing.signing.Config().use_elliptic_key_signer(
            private_key=key, password=None if password is None else password.encode()
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(_about_key(key, error, "private")) from error
    if not _is_run(path):
        return _sign(config, signing, path, ())
    run = RunFolder(path)
    if not run.weights_file.is_file():
        raise RunError(f"the training in {path} has not finished, so there is nothing to sign; resume it first")
    with run.lock():
        files = check_files(run)
        if files.outcome == "failed":
            raise RunError(f"{path} is not as it was written, so it is not signed: {files.detail}; restore the files")
        return _sign(config, signing, path, UNSIGNED)


def _sign(config: Any, signing: Any, path: Path, unsigned: tuple[str, ...]) -> SignedFiles:
    signature = signature_of(path)
    hashing = signing.hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=True)
    hashing.set_ignored_paths(paths=[Path(name) for name in unsigned])
    try:
        with tempfile.TemporaryDirectory(prefix="triscale-sign-") as folder:
            draft = Path(folder) / "signature"
            config.set_hashing_config(hashing).sign(path, draft)
            content = draft.read_bytes()
        write_atomic(signature, content)
    except OSError as error:
        raise UserError(f"cannot sign {path}: {error}") from error
    return SignedFiles(path=str(path), signature=str(signature), count=len(_resources(content)))


def check_signature(path: Path, key: Path, signature: Path | None = None) -> SignedFiles:
    """Verify the signature of a run, a folder or a file, and compare all files with it.

    Args:
        path: What was signed, or a copy.
        key: The public key of the signer in PEM.
        signature: The signature; by default where :func:`sign` writes it.

    Raises:
        UserError: The package is not installed, or the key or the signature cannot be read.
    """
    signing = load("model_signing", "OpenSSF Model Signing", "sign")
    crypto = load("cryptography.exceptions", "cryptography", "sign")
    _check_exists(path)
    file = signature or signature_of(path)
    if not file.is_file():
        raise UserError(f"there is no signature {file}; sign with: triscale sign {path} --key KEY.pem")
    try:
        config = signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(_about_key(key, error, "public")) from error
    found = SignedFiles(path=str(path), signature=str(file), count=0)
    try:
        config.verify(path, file)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, crypto.InvalidSignature) as error:
        reason = " ".join(str(error).split())
        if not reason.startswith("Signature mismatch"):
            return found.replace(invalid=_why_invalid(reason))
        # Here the signature is that of the key; which files differ is in the library's message alone.
        return _compared(found, path, _statement(file.read_bytes()), reason)
    return found.replace(count=len(_resources(file.read_bytes())))


def _why_invalid(reason: str) -> str:
    if not reason:  # the error of cryptography has no text
        return "it was changed, or was not made with the private key of this public key"
    if reason.startswith("Key mismatch"):
        return "it was made with another key"
    return f"it is damaged or of another kind ({reason})"


def signature_of(path: Path) -> Path:
    """Return where the signature of a run, a folder or a file is written.

    Example:
        >>> signature_of(Path("model.onnx")).name
        'model.onnx.sig'
    """
    if _is_run(path):
        return RunFolder(path).signature_file
    named = path.resolve() if path.name in ("", "..") else path
    return named.with_name(f"{named.name}.sig")


def _compared(found: SignedFiles, path: Path, statement: dict[str, Any], reason: str) -> SignedFiles:
    signed = _resources_of(statement)
    ignored = [Path(name) for name in statement["predicate"]["serialization"].get("ignore_paths", ())]
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    actual = {}
    for file in files:
        name = file.relative_to(path)
        if path.is_file() or not any(name.is_relative_to(one) for one in ignored):
            with file.open("rb") as opened:
                actual[name.as_posix()] = hashlib.file_digest(opened, "sha256").hexdigest()
    both = signed.keys() & actual.keys()
    shown = {name: path.name if name == _WHOLE else name for name in signed.keys() | actual.keys()}
    compared = found.replace(
        count=len(signed),
        changed=tuple(sorted(shown[name] for name in both if signed[name] != actual[name])),
        added=tuple(sorted(shown[name] for name in actual.keys() - signed.keys())),
        missing=tuple(sorted(shown[name] for name in signed.keys() - actual.keys())),
    )
    return compared.replace(invalid=reason) if compared.passed else compared


def _statement(signature: bytes) -> dict[str, Any]:
    """Return what is signed: an in-toto statement inside a Sigstore bundle."""
    return dict(json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"])))


def _resources_of(statement: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}


def _resources(signature: bytes) -> dict[str, str]:
    return _resources_of(_statement(signature))


def _is_run(path: Path) -> bool:
    return RunFolder(path).spec_file.is_file()


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(f"there is no {path}; give the folder of a run, or an exported file")
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and weights.is_file():
        raise UserError(f"{path} keeps its weights in {weights.name}; give the folder of both, or the run")


def _about_key(key: Path, error: Exception, kind: str) -> str:
    """Return what is wrong with a key, and how a pair is made."""
    make = "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem"
    if kind == "public":
        make = "openssl ec -in KEY.pem -pubout -out PUB.pem"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    elif "assword" in str(error):
        reason = f"it is encrypted; set {PASSWORD} to its password"
    else:
        reason = f"it is no {kind} key for ECDSA in PEM"
    return f"cannot read the key {key} ({reason}); make one with: {make}"
