"""A run is signed with real keys; every change of what was signed is found and named."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused, run
from sizes import size
from triscale.errors import RunError
from triscale.jobs.verification.signature import UNSIGNED, check_signature, sign

signing = pytest.importorskip("model_signing", reason="model-signing is not installed (extra sign)")
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}


def write_keys(folder: Path, name: str, private, password: str = "") -> tuple[Path, Path]:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    pair = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pair[0].write_bytes(private.private_bytes(pem, pkcs8, encryption))
    pair[1].write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    made = {name: write_keys(folder, name, ec.generate_private_key(curve)) for name, curve in CURVES.items()}
    made["other"] = write_keys(folder, "other", ec.generate_private_key(ec.SECP256R1()))
    made["secret"] = write_keys(folder, "secret", ec.generate_private_key(ec.SECP256R1()), "tulip")
    made["rsa"] = write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048))
    return made


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory) -> Path:
    folder = shutil.copytree(trained_run, tmp_path_factory.mktemp("exported") / "run")
    ts.Run.open(folder, progress=False).export(progress=False)
    return folder


@pytest.fixture
def made(exported, tmp_path) -> Path:
    return shutil.copytree(exported, tmp_path / "run")


@pytest.mark.parametrize("curve", CURVES)
def test_signed_run_is_verified_with_the_public_key(made, keys, curve):
    signed = sign(made, keys[curve][0])
    found = check_signature(made, keys[curve][1])
    assert found.passed
    assert found.count == signed.count
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert signed.count == len({name for name in names if name.partition("/")[0] not in UNSIGNED})


def test_library_itself_verifies_the_signature(made, keys):
    sign(made, keys["p256"][0])
    signing.verifying.Config().use_elliptic_key_verifier(public_key=keys["p256"][1]).verify(made, made / "model.sig")


def test_copy_elsewhere_and_later_files_that_are_not_signed_keep_the_signature(made, keys, tmp_path):
    sign(made, keys["p256"][0])
    ts.Run.open(made, progress=False).report()
    ts.Run.open(made, progress=False).card()
    shutil.rmtree(made / "checkpoints")
    copy = shutil.copytree(made, tmp_path / "elsewhere" / "name")
    assert check_signature(copy, keys["p256"][1]).passed


@pytest.mark.parametrize("name", ["model.safetensors", "run.json", "metrics.json", "model.onnx", "sbom.cdx.json"])
def test_changed_added_and_missing_files_are_named(made, keys, capsys, name):
    sign(made, keys["p256"][0])
    public = keys["p256"][1]
    content = bytearray((made / name).read_bytes())
    content[len(content) // 2] ^= 1
    (made / name).write_bytes(content)
    (made / "extra.bin").write_bytes(b"x")
    (made / "split.json").unlink()
    found = check_signature(made, public)
    assert (found.changed, found.added, found.missing) == ((name,), ("extra.bin",), ("split.json",))
    result = run(capsys, "verify", made, "--signature", "--key", public)
    assert result.code == 1
    assert f"{name} was changed, extra.bin was added, split.json is missing" in result.err
    assert len(result.err.splitlines()) == 1


def test_no_flipped_bit_of_a_signature_is_accepted_with_other_content(made, keys):
    """A flip may be without effect, such as in white space, but then it signs the same files."""
    sign(made, keys["p256"][0])
    file, chance = made / "model.sig", random.Random(0)
    whole = file.read_bytes()
    (made / "metrics.json").write_text("{}")
    for _ in range(size(60, 1000)):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        assert not check_signature(made, keys["p256"][1]).passed


def test_statement_of_another_run_under_a_good_signature_is_refused(made, keys, tmp_path):
    other = shutil.copytree(made, tmp_path / "other")
    (other / "manifest.json").unlink()
    (other / "metrics.json").write_text("{}")
    sign(made, keys["p256"][0])
    sign(other, keys["other"][0])
    bundle, theirs = (json.loads((folder / "model.sig").read_text()) for folder in (made, other))
    bundle["dsseEnvelope"]["payload"] = theirs["dsseEnvelope"]["payload"]
    (other / "model.sig").write_text(json.dumps(bundle))
    assert "was changed" in check_signature(other, keys["p256"][1]).invalid


def test_signature_of_another_key_is_refused(made, keys, capsys):
    sign(made, keys["other"][0])
    result = run(capsys, "verify", made, "--signature", "--key", keys["p256"][1])
    assert result.code == 1
    assert "made with another key" in result.err


def test_single_file_is_signed_beside_it(made, keys, capsys):
    file = made / "model.onnx"
    assert run(capsys, "sign", file, "--key", keys["p384"][0]).code == 0
    assert (made / "model.onnx.sig").is_file()
    good = run(capsys, "verify", file, "--signature", "--key", keys["p384"][1])
    assert (good.code, "1 file" in good.out) == (0, True)
    file.write_bytes(file.read_bytes() + b"\0")
    assert check_signature(file, keys["p384"][1]).changed == ("model.onnx",)


def test_encrypted_key_needs_its_password(made, keys, capsys, monkeypatch):
    monkeypatch.delenv("TRISCALE_KEY_PASSWORD", raising=False)
    assert "TRISCALE_KEY_PASSWORD" in refused(capsys, "sign", made, "--key", keys["secret"][0])
    monkeypatch.setenv("TRISCALE_KEY_PASSWORD", "rose")
    assert "TRISCALE_KEY_PASSWORD" in refused(capsys, "sign", made, "--key", keys["secret"][0])
    monkeypatch.setenv("TRISCALE_KEY_PASSWORD", "tulip")
    assert run(capsys, "sign", made, "--key", keys["secret"][0]).code == 0
    monkeypatch.delenv("TRISCALE_KEY_PASSWORD")
    assert ts.Run.open(made, progress=False).verify_signature(keys["secret"][1]).passed


def test_bad_input_is_refused_in_a_sentence(made, keys, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TRISCALE_KEY_PASSWORD", raising=False)
    private, public = keys["p256"]
    assert "no private key" in refused(capsys, "sign", made, "--key", public)
    assert "no private key" in refused(capsys, "sign", made, "--key", made / "run.json")
    assert "no private key" in refused(capsys, "sign", made, "--key", keys["rsa"][0])
    assert "No such file" in refused(capsys, "sign", made, "--key", tmp_path / "none.pem")
    assert "there is no" in refused(capsys, "sign", tmp_path / "none", "--key", private)
    assert "there is no signature" in refused(capsys, "verify", made, "--signature", "--key", public)
    assert "--key PUB.pem" in refused(capsys, "verify", made, "--signature")
    assert "--signature too" in refused(capsys, "verify", made, "--key", public)
    sign(made, private)
    assert "no public key" in refused(capsys, "verify", made, "--signature", "--key", private)
    assert "no public key" in refused(capsys, "verify", made, "--signature", "--key", keys["rsa"][1])
    (tmp_path / "junk.sig").write_text("{}")
    junk = run(capsys, "verify", made, "--signature", "--key", public, "--signature-file", tmp_path / "junk.sig")
    assert (junk.code, "damaged or of another kind" in junk.err) == (1, True)


def test_run_that_is_not_as_it_was_written_is_not_signed(made, keys):
    (made / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match=r"metrics\.json was changed"):
        sign(made, keys["p256"][0])
    (made / "model.safetensors").unlink()
    with pytest.raises(RunError, match="has not finished"):
        sign(made, keys["p256"][0])
    assert not (made / "model.sig").exists()
