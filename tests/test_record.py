"""Frozen data: strict keys, JSON with a kind and a schema number, stable digests, atomic files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import ClassVar

import pytest

from triscale.errors import RecordError
from triscale.families import get
from triscale.network.cost import Cost, cost
from triscale.network.custom import CustomNetwork
from triscale.network.spec import Network
from triscale.record import Record, digest, write_atomic
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.law import EFFICIENTNET, Law, Scale

B0 = get("efficientnet_b0")


def records() -> list[Record]:
    return [
        B0,
        CustomNetwork(name="mine", function="package.module:build"),
        EFFICIENTNET,
        Scale(depth=1.2),
        Budget(macs=1e9, params=5.5e6),
        cost(B0),
        fit_budget(B0, EFFICIENTNET, Budget(macs=1e9)),
    ]


@pytest.mark.parametrize("record", records(), ids=lambda record: record.kind_name)
def test_record_round_trips_through_json(record, tmp_path):
    cls = type(record)
    assert cls.from_json(record.to_json()) == record
    record.save(tmp_path / "deep" / "er" / "record.json")
    assert cls.load(tmp_path / "deep" / "er" / "record.json") == record
    data = json.loads(record.to_json())
    assert list(data)[:2] == ["triscale", "schema"]
    assert (data["triscale"], data["schema"]) == (cls.kind_name, cls.schema_number)
    assert record.to_json().endswith("}\n")


def test_record_kinds_are_unique():
    kinds = [cls.kind_name for cls in (Network, CustomNetwork, Law, Scale, Budget, Cost, Fit)]
    assert len(set(kinds)) == len(kinds)


def test_fit_of_custom_network_round_trips():
    own = CustomNetwork(name="mine", function="package.module:build")
    fit = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9)).model_copy(update={"network": own})
    assert Fit.from_json(fit.to_json()).network == own


def test_structure_digest_is_stable():
    # Runs and caches on people's disks are keyed by it: a new value here needs a new schema number.
    assert B0.structure == "eb7ca306f0d17dcbeb5451fa91bc7c3fcba4c1e63ec3aceb1367b2b5d8698b39"


def test_digest_ignores_key_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
    assert (
        EFFICIENTNET.digest == Law(gamma=1.15, beta=1.1, alpha=1.2).digest != Law(alpha=1.2, beta=1.1, gamma=1.2).digest
    )
    with pytest.raises(ValueError, match=r"[Oo]ut of range"):
        digest(float("nan"))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("aplha", 'unknown key "aplha"; did you mean alpha'),
        ("phi", 'unknown key "phi"; the keys are alpha, beta, gamma'),
    ],
)
def test_unknown_key_is_rejected(key, hint):
    data = json.loads(EFFICIENTNET.to_json()) | {key: 1.5}
    with pytest.raises(RecordError, match=hint):
        Law.from_json(json.dumps(data))


def test_nested_unknown_key_is_reported_with_path():
    data = json.loads(B0.to_json())
    data["stages"][2]["block"]["se_rato"] = data["stages"][2]["block"].pop("se_ratio")
    with pytest.raises(RecordError, match=r"stages\.2\.block\.mbconv\.se_rato.*did you mean se_ratio"):
        Network.from_json(json.dumps(data), source="mine.json")


def test_all_errors_are_reported_together():
    with pytest.raises(RecordError) as caught:
        Law.from_json('{"triscale": "law", "schema": 1, "alpha": 0.5, "beta": "wide"}', source="law.json")
    message = str(caught.value)
    assert message.startswith("law.json is not a valid law record")
    assert '"alpha": Input should be greater than or equal to 1, given 0.5' in message
    assert '"beta"' in message
    assert '"gamma" is missing' in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the text given is not JSON .* expected a law record"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[1]", "holds a JSON list; expected a law record, an object"),
        ("3", "holds a JSON int"),
        ("{}", 'no record of Triscale .no "triscale" key.; expected a law record'),
        ('{"triscale": "scale", "schema": 1}', "is a scale record; expected a law record"),
        ('{"triscale": "law"}', 'no valid "schema" number'),
        ('{"triscale": "law", "schema": "1"}', 'no valid "schema" number'),
        ('{"triscale": "law", "schema": true}', 'no valid "schema" number'),
        ('{"triscale": "law", "schema": 0}', 'no valid "schema" number'),
        (
            '{"triscale": "law", "schema": 2, "alpha": 1, "beta": 1, "gamma": 1}',
            "law record of schema 2, and this version of Triscale reads up to schema 1; install a newer Triscale",
        ),
        ('{"triscale": "law", "schema": 1, "alpha": NaN, "beta": 1, "gamma": 1}', "finite number"),
        ('{"triscale": "law", "schema": 1, "alpha": 1e999, "beta": 1, "gamma": 1}', "finite number|less than"),
    ],
)
def test_invalid_record_text_is_rejected(text, message):
    with pytest.raises(RecordError, match=message):
        Law.from_json(text)


def test_unreadable_file_is_reported(tmp_path):
    with pytest.raises(
        RecordError, match=r"cannot read .*none\.json: No such file or directory; expected a law record"
    ):
        Law.load(tmp_path / "none.json")
    with pytest.raises(RecordError, match="Is a directory"):
        Law.load(tmp_path)


def test_record_without_kind_has_no_header():
    class Plain(Record):
        number: int

    assert Plain(number=3).to_json() == '{\n "number": 3\n}\n'
    assert Plain.from_json('{"number": 3}') == Plain(number=3)
    with pytest.raises(RecordError, match="plain record"):
        Plain.from_json('{"numbr": 3}')


def test_other_schema_error_reports_required_version():
    class Grown(Record):
        kind_name: ClassVar[str] = "grown"
        schema_number: ClassVar[int] = 2

    assert Grown.from_json('{"triscale": "grown", "schema": 2}') == Grown()
    with pytest.raises(RecordError, match=r"of schema 1, .* reads schema 2; make it again, .* 'triscale==0\.1\.\*'"):
        Grown.from_json('{"triscale": "grown", "schema": 1}')
    with pytest.raises(RecordError, match="up to schema 2; install a newer Triscale"):
        Grown.from_json('{"triscale": "grown", "schema": 3}')


def test_replace_validates():
    law = Law(alpha=1.2, beta=1.1, gamma=1.15)
    assert law.replace(beta=1.3) == Law(alpha=1.2, beta=1.3, gamma=1.15)
    with pytest.raises(RecordError, match=r"the changed law record is not valid|changed law record.*beta"):
        law.replace(beta=0.5)
    with pytest.raises(RecordError, match='unknown key "betta"; did you mean beta'):
        law.replace(betta=1.2)


def test_records_are_frozen():
    with pytest.raises(RecordError, match="cannot be changed"):
        EFFICIENTNET.alpha = 2.0


def test_unicode_text_is_preserved(tmp_path):
    named = B0.replace(name="größer ✓")
    named.save(tmp_path / "network.json")
    assert "größer ✓" in (tmp_path / "network.json").read_text(encoding="utf-8")
    assert Network.load(tmp_path / "network.json") == named


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_failed_save_keeps_old_file(call, tmp_path, monkeypatch):
    path = tmp_path / "law.json"
    EFFICIENTNET.save(path)
    before = contents(tmp_path)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif call == "replace":
        monkeypatch.setattr(os, "replace", fail)
        monkeypatch.setattr(Path, "replace", fail)
    else:
        real = os.fdopen

        def broken(*args: object, **kwargs: object) -> object:
            file = real(*args, **kwargs)
            file.close()
            return file

        monkeypatch.setattr(os, "fdopen", broken)
    with pytest.raises((OSError, ValueError)):
        Law(alpha=2, beta=1, gamma=1).save(path)
    assert contents(tmp_path) == before


def test_failed_first_save_leaves_no_file(tmp_path, monkeypatch):
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EFFICIENTNET.save(tmp_path / "law.json")
    assert contents(tmp_path) == {}


def test_save_syncs_file_before_and_folder_after_rename(tmp_path, monkeypatch):
    happened = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_fsync(handle)

    def replace(path: Path, target: Path) -> Path:
        happened.append("rename")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomic(tmp_path / "file", b"content")
    assert happened == ["file", "rename", "folder"]
    assert contents(tmp_path) == {"file": b"content"}
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
