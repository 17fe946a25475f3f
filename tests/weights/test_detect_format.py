"""The format of a weights file is recognized whatever the length of its header is."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from triscale.errors import WeightsError
from triscale.weights.foreign import detect_format
from triscale.weights.tensors import read_tensors


def safetensors_file(path: Path, length: int) -> Path:
    """Write a file of one tensor whose header has a length in bytes, padded with spaces as the format allows."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    values = torch.tensor([1.0, 2.0]).numpy().tobytes()
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + values)
    return path


@given(st.integers(80, 1 << 17))
@example(0x180)  # begins like a pickle
@example(0x4B50)  # like a zip
@example(0x8B1F)  # like a gzip file
@example(0x18B1F)
def test_safetensors_are_recognized_at_every_header_length(tmp_path_factory, length):
    path = safetensors_file(tmp_path_factory.getbasetemp() / "any.safetensors", length)
    assert detect_format(path) == "safetensors"
    tensors, _ = read_tensors(path)
    assert tensors["weight"].tolist() == [1.0, 2.0]


def test_truncated_safetensors_file_is_named_as_such(tmp_path):
    path = safetensors_file(tmp_path / "half.safetensors", 0x180)
    path.write_bytes(path.read_bytes()[:100])
    assert detect_format(path) == "safetensors"
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        read_tensors(path)


@given(st.dictionaries(st.text(max_size=20), st.floats() | st.integers(), max_size=5), st.integers(2, 5))
def test_pickles_are_no_safetensors(tmp_path_factory, content, protocol):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert detect_format(path) == "pickle"


@given(st.binary(max_size=64), st.integers(0, 255), st.sampled_from([0, 1, 1_700_000_000]))
def test_archives_are_no_safetensors(tmp_path_factory, content, level, time):
    folder = tmp_path_factory.getbasetemp()
    with zipfile.ZipFile(folder / "any.zip", "w", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[level % 2]) as archive:
        archive.writestr("{data", content)
    assert detect_format(folder / "any.zip") == "zip"
    (folder / "any.gz").write_bytes(gzip.compress(content, level % 10, mtime=time))
    assert detect_format(folder / "any.gz") == "tar"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("{model.index"), io.BytesIO())
    (folder / "any.tar").write_bytes(buffer.getvalue())
    assert detect_format(folder / "any.tar") == "tar"


def test_files_of_torch_are_told_apart(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "new.pth")
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert (detect_format(tmp_path / "new.pth"), detect_format(tmp_path / "old.pth")) == ("zip", "pickle")
