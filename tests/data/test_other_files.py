"""Files that are not images are ignored; files that should be images are bad, with the way out."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triscale.data.images.color import BadImage
from triscale.data.images.decode import decode
from triscale.data.pipeline.scan import scan
from triscale.errors import DataError

from .pictures import write_classes


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    write_classes(root, {"a": 6, "b": 6})
    return root


def test_sidecar_files_are_ignored_and_counted(images):
    for name in "ab":
        for number in range(4):
            (images / name / f"{number}.txt").write_text("0 0.5 0.5 1 1")
        (images / name / "labels.json").write_text("{}")
        (images / name / "notes.xml").write_text("<?xml version='1.0'?><annotation/>")
        (images / name / "table.CSV").write_text("")
        (images / name / "LICENSE").write_text("free")
    found = scan(images)
    assert found.num_images == 12
    assert found.bad == ()
    assert found.notes == (
        "16 files that are not images are ignored: 8 .txt, 2 without a suffix, 2 .json, 2 .xml, 2 .csv",
    )


def test_a_single_sidecar_file_is_named(images):
    (images / "a" / "video.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    assert scan(images).notes == ("1 file that is not an image is ignored: 1 .mov",)


def test_files_named_like_images_stay_bad(images):
    for number, suffix in enumerate(("jpg", "PNG", "heic", "psd", "nef", "tga")):
        (images / "a" / f"{number}.{suffix}").write_text("text")
    found = scan(images, strict=False)
    assert len(found.bad) == 6
    assert "6 of 18 files" in found.problems[0]


def test_images_are_read_whatever_their_suffix(images):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    for name in ("x.txt", "y", "z.jpg_large"):
        (images / "a" / name).write_bytes(buffer.getvalue())
    assert scan(images).num_images == 15


def test_ignored_files_do_not_dilute_the_share_of_bad_ones(images):
    for number in range(500):
        (images / "a" / f"{number}.txt").touch()
    for number in range(3):
        (images / "a" / f"{number}.jpg").write_text("text")
    with pytest.raises(DataError, match="3 of 15 files"):
        scan(images)


def test_a_class_of_sidecar_files_alone_is_named(images):
    (images / "annotations").mkdir()
    (images / "annotations" / "1.xml").write_text("<a/>")
    with pytest.raises(DataError, match="no images of class annotations"):
        scan(images)


def test_a_folder_of_sidecar_files_alone_has_no_image(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("1")
    with pytest.raises(DataError, match=r"none of the 2 files .* is a readable image"):
        scan(tmp_path)


def test_files_that_a_table_lists_are_bad(images):
    for number in range(3):
        (images / "a" / f"{number}.txt").write_text("text")
    rows = [f"{path.relative_to(images).as_posix()},{path.parent.name}" for path in sorted(images.glob("*/*"))]
    (images / "labels.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DataError, match="3 of 15 files"):
        scan(images / "labels.csv")


def tiff(*tags: tuple[int, int, int, int], magic: bytes = b"II*\0", mark: bytes = b"") -> bytes:
    start = 8 + len(mark)
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return magic + struct.pack("<L", start) + mark + struct.pack("<H", len(tags)) + entries + bytes(4)


UNREAD = {
    "camera raw (CR2)": tiff(mark=b"CR\x02\0\0\0\0\0"),
    "camera raw (CR3)": b"\0\0\0\x18ftypcrx \0\0\0\1",
    "camera raw (DNG)": tiff((254, 4, 1, 1), (50706, 1, 4, 0x0401)),
    "camera raw (NEF)": tiff((254, 4, 1, 1), (330, 4, 1, 38)) + tiff((262, 3, 1, 32803))[8:],
    "camera raw (RW2)": b"IIU\0" + bytes(40),
    "camera raw (ORF)": b"IIRO" + bytes(40),
    "camera raw (RAF)": b"FUJIFILMCCD-RAW 0201",
    "Photoshop": b"8BPS\0\1",
    "SVG": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.7\n",
    "DICOM": bytes(128) + b"DICM" + bytes(40),
    "OpenEXR": b"v/1\x01\2\0\0\0",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ",
    "FITS": b"SIMPLE  =                    T",
    "NIfTI": bytes(344) + b"n+1\0",
    "NIfTI (version 2)": bytes(4) + b"n+2\0" + bytes(500),
    "NIfTI (.nii.gz)": gzip.compress(bytes(344) + b"n+1\0" + bytes(range(256)) * 1000),
    "SVG (.svgz)": gzip.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "Radiance": b"#?RADIANCE\n",
}


@pytest.mark.parametrize("name", UNREAD)
def test_known_formats_that_are_not_read_are_named_with_the_way_out(name):
    with pytest.raises(BadImage, match=rf"{name.split(' (')[0]}.* is not read; \w+ "):
        decode(UNREAD[name])


def test_damaged_and_nested_gzip_is_no_known_format():
    whole = gzip.compress(bytes(344) + b"n+1\0" + bytes(400))
    for content in (whole[:12], b"\x1f\x8b" + bytes(100), gzip.compress(whole)):
        with pytest.raises(BadImage) as caught:
            decode(content)
        assert "NIfTI" not in str(caught.value)


def test_a_table_of_tags_beyond_the_file_is_an_ordinary_damaged_tiff():
    with pytest.raises(BadImage, match="damaged TIFF"):
        decode(b"II*\0\xff\xff\xff\xff")


def test_svg_needs_no_xml_declaration():
    with pytest.raises(BadImage, match="SVG"):
        decode(b"\xef\xbb\xbf <svg/>")


def bands(number: int, kind: str) -> bytes:
    values = np.full((4, 5, number), 2, kind)
    tags = [(256, 4, 1, 5), (257, 4, 1, 4), (258, 4, 1, values.itemsize * 8), (259, 4, 1, 1), (262, 4, 1, 1)]
    tags += [(273, 4, 1, 0), (277, 4, 1, number), (278, 4, 1, 4), (279, 4, 1, values.nbytes)]
    tags += [(339, 4, 1, 3)] if kind.startswith("f") else []
    tags[5] = (273, 4, 1, 8 + 2 + 12 * len(tags) + 4)
    return tiff(*tags) + values.tobytes()


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (1, "f4", "floating-point values from 2 to 2; expected 0 to 1; scale them"),
        (3, "f4", "floating-point values from 2 to 2; expected 0 to 1; scale them"),
        (1, "f8", "floating-point values from 2 to 2; expected 0 to 1; scale them"),
        (5, "u1", "has 5 channels; expected 3; train on them with --channels 5"),
        (13, "u2", "has 13 channels; expected 3; train on them with --channels 13"),
        (2, "u4", "unusual number of channels or bits; save one or three channels"),
    ],
)
def test_tiff_of_other_values_says_what_to_convert_it_to(number, kind, reason):
    if (number, kind) in ((3, "f4"), (1, "f8")):
        pytest.importorskip("tifffile")
    with pytest.raises(BadImage, match=reason):
        decode(bands(number, kind))


def test_gray_tiff_of_the_same_writer_is_read():
    assert decode(bands(1, "u1")).size == (5, 4)


def test_formats_without_a_signature_are_recognized_by_their_suffix(images):
    (images / "a" / "scan.dcm").write_bytes(bytes(200))
    (bad,) = scan(images).bad
    assert bad.reason.endswith("; convert it to PNG or JPEG")
