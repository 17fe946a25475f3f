"""Readers of files and requests from outside, and what they may raise on any bytes.

Each target reads bytes and either succeeds or raises an error that says what is wrong with them. Anything else, an
exception of another class, a crash or a hang, is a fault. ``benchmarks/fuzz.py`` tries millions of inputs, and
``test_any_bytes.py`` the seeds, the inputs that once failed (in ``found``) and some hundred others.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from fastapi import HTTPException
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from triscale.data.images.color import BadImage
from triscale.data.images.decode import ImageLimits, decode, exif_of
from triscale.data.images.header import format_of, jxl_size
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.manifest import read_manifest
from triscale.data.sources.tars import members
from triscale.deploy.contract import Contract
from triscale.deploy.onnx_safety import check_onnx
from triscale.errors import TriscaleError
from triscale.families import get
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.serve.form_body import files_of_form
from triscale.serve.json_body import images_of_json
from triscale.serve.limits import ServerLimits
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Manifest, Stored
from triscale.weights.bundle import read_bundle
from triscale.weights.foreign import check_zip, detect_format
from triscale.weights.tensors import read_tensors, write_tensors

IMAGE_LIMITS = ImageLimits(pixels=1 << 16, frames=20)
SERVER_LIMITS = ServerLimits(body_bytes=1 << 16, images=4)


class Target(NamedTuple):
    """A reader.

    Attributes:
        seeds: Returns valid inputs.
        read: Reads bytes.
        refusals: What it may raise.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (TriscaleError,)


@lru_cache(maxsize=1)
def folder() -> Path:
    """Return a folder in memory, one for each process."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=f"fuzz-{os.getpid()}-", dir=memory if memory.is_dir() else None))


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes from one of a file."""

    def of_bytes(content: bytes) -> object:
        path = folder() / name
        path.write_bytes(content)
        return read(path)

    return of_bytes


def saved(write: Callable[[Path], object], name: str) -> bytes:
    path = folder() / name
    write(path)
    return path.read_bytes()


def images() -> list[bytes]:
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8))
    gray = Image.fromarray(rng.integers(0, 65535, (5, 6), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6

    def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    array = io.BytesIO()
    np.save(array, rng.integers(0, 255, (6, 5, 3), dtype=np.uint8))
    return [
        encoded(color, "PNG"), encoded(gray, "PNG"), encoded(color.convert("P"), "PNG", transparency=3),
        encoded(color, "JPEG", exif=exif), encoded(color.convert("CMYK"), "JPEG"), encoded(color, "BMP"),
        encoded(color, "GIF", save_all=True, append_images=[color.rotate(90)]), encoded(color, "WEBP"),
        encoded(color, "TIFF"), encoded(gray, "TIFF"), encoded(color, "TIFF", compression="tiff_lzw"),
        encoded(color, "PPM"), encoded(color, "AVIF"), array.getvalue(),
        b"\xff\x0a\x7f\x1f\x08\x10\x02\x00" + bytes(60),
        b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl \0\0\0\0jxlc\xff\x0a\x7f\x1f\x08" + bytes(40),
    ]  # fmt: skip


def read_image(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode(content, IMAGE_LIMITS)


def read_image_header(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format_of(content) == "JXL":
            jxl_size(content)
        exif_of(content, IMAGE_LIMITS)


def records() -> list[bytes]:
    network = get("efficientnet_b0")
    stored = Stored(name="a.safetensors", sha256="0" * 64)
    split = Split(
        root="/a", classes=("a", "b"), train=(Sample("a/1.png", 0),), val=(Sample("b/1.png", 1),), test=(), seed=0,
        how="by folders",
    )  # fmt: skip
    manifest = Manifest(
        recipe="", network="", seed=0, step=3, finished=False, history=(), best=None, state_file=stored, best_file=None
    )
    contract = Contract(network="b0", preprocessing=Preprocessing(resolution=224), classes=("a", "b"))
    return [record.to_json().encode() for record in (network, split, manifest, contract, Recipe())]


RECORDS = (Network, Split, Manifest, Contract, Recipe)


def read_records(content: bytes) -> None:
    """Read all kinds, of which one fits at most."""
    refused = []
    for kind in RECORDS:
        try:
            kind.from_json(content)
        except TriscaleError as error:
            refused.append(error)
    if len(refused) == len(RECORDS):
        raise refused[0]


def weights_files() -> list[bytes]:
    tensors = {"stem.weight": torch.ones(2, 3), "head.bias": torch.zeros(2, dtype=torch.int64)}
    return [
        saved(lambda path: write_tensors(path, tensors, {"author": "me"}), "seed.safetensors"),
        saved(lambda path: write_tensors(path, {}, {}), "none.safetensors"),
    ]


def pickles() -> list[bytes]:
    state = {"state_dict": {"weight": torch.ones(3)}}
    return [
        saved(lambda path: torch.save(state, path), "seed.pth"),
        saved(lambda path: torch.save(state, path, _use_new_zipfile_serialization=False), "old.pth"),
    ]


def read_foreign(path: Path) -> None:
    if detect_format(path) == "zip":
        check_zip(path)


def bundles() -> list[bytes]:
    return [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "weights/data").rglob("*.index"))]


def read_variables(path: Path) -> None:
    for shard in (Path(__file__).parent.parent / "weights/data").rglob("*.data-00000-of-00001"):
        shutil.copyfile(shard, path.with_name(f"{path.stem}.data-00000-of-00001"))
    read_bundle(path)


def tars() -> list[bytes]:
    results = []
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            for name, content in (("train/0001.jpg", b"image"), ("train/0001.cls", b"3"), ("a" * 90 + ".png", b"x")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        results.append(file.getvalue())
    return results


def tables() -> list[bytes]:
    text = "path,label,split\na.png,cat,train\nb.png,dog,val\nc.png,cat,test\n"
    one_hot = "filename;cat;dog\na.png;1;0\nb.png;1;1\n"
    return [text.encode(), text.encode("utf-16"), one_hot.encode("latin-1"), text.replace(",", "\t").encode()]


def read_table(path: Path) -> None:
    for name in "abc":
        path.with_name(f"{name}.png").touch()
    read_manifest(path)


def json_tables() -> list[bytes]:
    rows = [{"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"}]
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 3}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    return [json.dumps(rows).encode(), json.dumps(coco).encode(), "\n".join(map(json.dumps, rows)).encode()]


def graphs() -> list[bytes]:
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "weight")
    external = numpy_helper.from_array(np.ones(4, np.float32), "bias")
    external.ClearField("raw_data")
    external.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        entry = external.external_data.add()
        entry.key, entry.value = key, value
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, 8, 8])
    nodes = [helper.make_node("Conv", ["images", "weight", "bias"], ["logits"])]
    opsets = [helper.make_opsetid("", 13)]
    models = [
        helper.make_model(helper.make_graph(nodes, "graph", [given], [result], tensors), opset_imports=opsets)
        for tensors in ([weight, external], [weight])
    ]
    return [model.SerializeToString() for model in models]


def read_graph(path: Path) -> onnx.ModelProto:
    path.with_name("weights.bin").write_bytes(bytes(16))
    return check_onnx(path)


def json_bodies() -> list[bytes]:
    return [b'{"image": "iVBORw0KGgo="}', b'{"images": ["iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="]}']


def forms() -> list[bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return [
        b"multipart/form-data; boundary=x\n" + head + b"PNG\r\n--x--\r\n",
        b'multipart/form-data; boundary="x"\n' + head + b"PNG\r\n" + head + b"GIF\r\n--x--\r\n",
    ]


def read_form(content: bytes) -> None:
    kind, _, body = content.partition(b"\n")
    files_of_form(body, kind.decode("latin-1"), SERVER_LIMITS.images)


TARGETS = {
    "images": Target(images, read_image, (BadImage,)),
    "image headers": Target(images, read_image_header, (BadImage, ValueError)),
    "records": Target(records, read_records),
    "safetensors": Target(weights_files, in_file("a.safetensors", read_tensors)),
    "formats of weights": Target(pickles, in_file("a.pth", read_foreign)),
    "TensorFlow checkpoints": Target(bundles, in_file("a.index", read_variables)),
    "tar indexes": Target(tars, in_file("a.tar", lambda path: list(members(path)))),
    "tables": Target(tables, in_file("a.csv", read_table)),
    "JSON tables": Target(json_tables, in_file("a.json", read_table)),
    "JSON lines": Target(json_tables, in_file("a.jsonl", read_table)),
    "compressed tables": Target(
        lambda: [gzip.compress(table, mtime=0) for table in tables()], in_file("a.csv.gz", read_table)
    ),
    "ONNX": Target(graphs, in_file("a.onnx", read_graph)),
    "JSON requests": Target(json_bodies, lambda body: images_of_json(body, SERVER_LIMITS), (HTTPException,)),
    "form requests": Target(forms, read_form, (HTTPException,)),
}


def accepts(target: Target, content: bytes) -> bool:
    """Return whether a target reads bytes; False if it refuses them.

    Raises:
        Exception: What it may not raise.
    """
    try:
        target.read(content)
    except target.refusals:
        return False
    return True
