"""Hostile files: they try to run code, exhaust memory or disk, or write outside their folder."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Hostile(NamedTuple):
    """A file name, and a function that creates the file."""

    name: str
    make: Callable[[], bytes]


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def calls(canary: Path) -> dict[str, Call]:
    """Return calls that each leave a file at the canary when they are made."""
    import builtins
    import os
    import pathlib
    import runpy
    import shutil
    import subprocess
    import timeit

    source = f"open({str(canary)!r}, 'w').close()"
    script = canary.with_suffix(".script")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(source)
    return {
        "os.system": Call(os.system, f"touch '{canary}'"),
        "subprocess.Popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "subprocess.call": Call(subprocess.call, ["touch", str(canary)]),
        "eval": Call(builtins.eval, source),
        "exec": Call(builtins.exec, source),
        "open": Call(builtins.open, str(canary), "w"),
        "os.mkdir": Call(os.mkdir, str(canary)),
        "shutil.copy": Call(shutil.copy, str(script), str(canary)),
        "runpy.run_path": Call(runpy.run_path, str(script)),
        "timeit.timeit": Call(timeit.timeit, source, "pass", timeit.default_timer, 1),
        "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(canary)))),
        "Path.touch": Call(pathlib.Path.touch, Call(pathlib.Path, str(canary))),
    }


def as_pickle(call: Call) -> bytes:
    return pickle.dumps(call, protocol=2)


def as_new_pickle(call: Call) -> bytes:
    return pickle.dumps({"state_dict": {"weight": call}}, protocol=4)


def as_legacy(call: Call) -> bytes:
    """As torch.save wrote before 1.6: a magic number, a version, the machine, the object, the keys of its storages."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}, {"a": call}, [])
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


def as_zip(call: Call) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3), "other": call}, file)
    return file.getvalue()


def as_attribute(call: Call) -> bytes:
    """The call is the state that is set on an ordered dictionary, which loaders allow."""
    content = pickle.dumps(call, protocol=2)
    body = content[2:-1]
    return with_data_pickle(b"\x80\x02ccollections\nOrderedDict\n)R" + body + b"b.")


CONTAINERS = (as_pickle, as_new_pickle, as_legacy, as_zip, as_attribute)


def payloads(canary: Path) -> Iterator[Hostile]:
    """Yield 60 files that make a call: 12 calls in 5 containers."""
    for name, call in calls(canary).items():
        for container in CONTAINERS:
            yield Hostile(f"{name}-{container.__name__}.pth", partial(container, call))


def with_data_pickle(content: bytes, **options: Any) -> bytes:
    """Return a file of torch.save with another pickle in it."""
    good, made = io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(made, "w", **options) as new:
        for member in old.infolist():
            new.writestr(member.filename, content if member.filename.endswith("data.pkl") else old.read(member))
    return made.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, stop: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def tarred(
    *members: tuple[str, bytes | None, dict[str, Any]], zipped_by: Callable[[bytes], bytes] = gzip.compress
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content or b""))
    return zipped_by(file.getvalue())


def pax_bomb(size: int) -> bytes:
    """A tar whose extended header alone is large."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "0" * size}
    return gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + b"\0" * 1024)


def shared(number: int) -> dict[str, torch.Tensor]:
    """Many names for one storage: small on disk, large where it is written out."""
    one = torch.zeros(250_000)
    return {str(index): one for index in range(number)}


def nested(depth: int) -> bytes:
    """Nested dictionaries with shared children: a search without memoization would never end."""
    body = b"\x80\x02}(X\x01\0\0\0aK\x01u."[:-1]
    for _ in range(depth):
        body += b"q\x00" + b"0}(X\x05\0\0\0modelh\x00X\x03\0\0\0neth\x00u"
    return body + b"."


def quick_archives() -> Iterator[Hostile]:
    """Yield files that are rejected before the sandbox process is started."""
    good = saved({"weight": torch.arange(100_000.0)})
    flipped = bytearray(good)
    flipped[good.index(struct.pack("<2f", 1.0, 2.0))] ^= 1
    yield Hostile("bomb.pth", lambda: zipped(("archive/data.pkl", bytes(64 << 20)), compression=zipfile.ZIP_DEFLATED))
    yield Hostile("lzma-bomb.pth", lambda: zipped(("archive/data/0", bytes(64 << 20)), compression=zipfile.ZIP_LZMA))
    yield Hostile("deflated.pth", lambda: with_data_pickle(b"\x80\x02}.", compression=zipfile.ZIP_DEFLATED))
    yield Hostile("cut.pth", lambda: good[: len(good) // 2])
    yield Hostile("cut-end.pth", lambda: good[:-10])
    yield Hostile("flipped.pth", lambda: bytes(flipped))
    yield Hostile("overlapping.pth", lambda: overlapping(good))
    yield Hostile("empty.pth", lambda: b"")
    yield Hostile("text.pth", lambda: b"<html><body>404 not found</body></html>" * 10)
    one = {"a": entry(0, 8, [2])}
    yield Hostile("header-longer-than-file.safetensors", lambda: safetensors(one, bytes(8), length=1 << 20))
    yield Hostile("header-of-2-to-63.safetensors", lambda: safetensors(one, bytes(8), length=1 << 63))
    yield Hostile("header-large.safetensors", lambda: safetensors(b"{" + b" " * (5 << 20) + b"}"))
    yield Hostile("no-json.safetensors", lambda: safetensors(b"{nothing", bytes(8)))
    yield Hostile("deep-json.safetensors", lambda: safetensors(b'{"a":' + b"[" * 100_000, bytes(8)))
    yield Hostile("beyond-the-end.safetensors", lambda: safetensors({"a": entry(0, 4000, [1000])}, bytes(8)))
    yield Hostile(
        "overlap.safetensors", lambda: safetensors({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12))
    )
    yield Hostile("gap.safetensors", lambda: safetensors({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12)))
    yield Hostile("shape-lies.safetensors", lambda: safetensors({"a": entry(0, 8, [1 << 20])}, bytes(8)))
    yield Hostile("shape-overflows.safetensors", lambda: safetensors({"a": entry(0, 0, [1 << 62, 4])}, b""))
    yield Hostile("negative.safetensors", lambda: safetensors({"a": entry(0, 8, [-2])}, bytes(8)))
    yield Hostile("strange-type.safetensors", lambda: safetensors({"a": entry(0, 8, [2], "PY_OBJECT")}, bytes(8)))
    twice = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    )
    yield Hostile("twice.safetensors", lambda: safetensors(twice, bytes(8)))
    yield Hostile("trailing.safetensors", lambda: safetensors(one, bytes(8) + b"more"))
    yield Hostile("metadata.safetensors", lambda: safetensors(one | {"__metadata__": {"a": [1]}}, bytes(8)))


def slow_archives() -> Iterator[Hostile]:
    """Yield files that the sandbox process has to open."""
    names = [("model.index", b"x" * 100, {}), ("model.data-00000-of-00001", b"y" * 100, {})]
    climbing = [("../../escaped.index", b"x" * 100, {}), ("/tmp/escaped.data-00000-of-00001", b"y" * 100, {})]
    yield Hostile("climbing.tar.gz", lambda: tarred(*climbing))
    yield Hostile("expanded.pth", lambda: saved({"a": torch.zeros(1).expand(1 << 30)}))
    yield Hostile("shared.pth", lambda: saved(shared(1000)))
    yield Hostile("nested.pth", lambda: nested(60))
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    yield Hostile("link.tar.gz", lambda: tarred(("model.index", None, link), names[1]))
    yield Hostile(
        "two.tar.gz", lambda: tarred(*names, *[(f"b/{name}", content, fields) for name, content, fields in names])
    )
    yield Hostile("cut.tar.gz", lambda: tarred(*names, zipped_by=lambda content: gzip.compress(content)[:-30]))
    yield Hostile(
        "cut-legacy.pth", lambda: saved({"a": torch.zeros(1000)}, _use_new_zipfile_serialization=False)[:-500]
    )
    yield Hostile(
        "climbing.pth", lambda: zipped(("../../../tmp/escaped/data.pkl", b"\x80\x02}."), ("/abs/version", b"3\n"))
    )
    yield Hostile("script.pth", script_archive)
    yield Hostile("bomb.tar.gz", lambda: tarred(names[0], ("m.data-00000-of-00001", bytes(256 << 20), {})))
    yield Hostile("pax-bomb.tar.gz", lambda: pax_bomb(600 << 20))


def script_archive() -> bytes:
    """A compiled module, which is code."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), file)
    return file.getvalue()


def overlapping(good: bytes) -> bytes:
    """A zip whose table lists one member five hundred times."""
    file = io.BytesIO(good)
    with zipfile.ZipFile(file) as archive:
        start = archive.start_dir
        large = max(archive.infolist(), key=lambda member: member.file_size)
        rows = []
        for number in range(500):
            name = f"archive/data/{number}".encode()
            rows.append(
                struct.pack(
                    "<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0, large.CRC, large.file_size,
                    large.file_size, len(name), 0, 0, 0, 0, 0, large.header_offset,
                )
                + name
            )  # fmt: skip
    table = b"".join(rows)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(rows), len(rows), len(table), start, 0)
    return good[:start] + table + end
