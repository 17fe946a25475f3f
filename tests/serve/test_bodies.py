"""Images sent as bytes, as a form and as JSON: the same predictions, limits, and clear errors for hostile bodies."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image
from starlette.testclient import TestClient

from serve.forms import BOUNDARY, FORM, form, part
from triscale.jobs.core.run import RunFolder
from triscale.serve.app import make_app
from triscale.serve.limits import ServerLimits
from triscale.serve.model import ServedModel

LIMITS = ServerLimits(body_bytes=60_000, images=3, waiting=4)
JSON = {"content-type": "application/json"}
PATH = "/api/predict"


@pytest.fixture(scope="module")
def client(served_run):
    return TestClient(make_app(ServedModel(RunFolder.open(served_run), LIMITS.pixels), LIMITS))


@pytest.fixture(scope="module")
def contents(served_run):
    return [file.read_bytes() for file in sorted((served_run.parent / "images").rglob("*.png"))[::30]]


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def without_time(prediction):
    return {key: value for key, value in prediction.items() if key not in ("milliseconds", "file")}


def post(client, body, headers):
    return client.post(PATH, content=body, headers=headers)


def detail(response):
    """The sentence of a refusal."""
    text = response.json()["detail"]
    assert isinstance(text, str)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_all_forms_give_the_same_predictions(client, contents):
    raw = [post(client, content, {}).json() for content in contents]
    expected = [without_time(one) for one in raw]
    assert len({one["classes"][0]["name"] for one in expected}) > 1
    single = post(client, json.dumps({"image": base64_of(contents[0])}), JSON).json()
    assert without_time(single) == expected[0]
    several = post(client, json.dumps({"images": [base64_of(content) for content in contents]}), JSON).json()
    assert [without_time(one) for one in several["predictions"]] == expected
    sent = post(client, form(*(part(content, f"{i}.png") for i, content in enumerate(contents))), FORM).json()
    assert [without_time(one) for one in sent["predictions"]] == expected
    assert [one["file"] for one in sent["predictions"]] == ["0.png", "1.png", "2.png"]


def test_parameters_apply_to_each_image(client, contents):
    body = form(part(contents[0], "a"), part(contents[1], "b"))
    result = client.post(f"{PATH}?top=2&map=true", content=body, headers=FORM).json()["predictions"]
    assert [len(one["classes"]) for one in result] == [2, 2]
    assert all(base64.b64decode(one["map"]).startswith(b"\x89PNG") for one in result)


def test_content_type_of_clients_that_state_none_means_bytes(client, contents):
    for header in ("application/x-www-form-urlencoded", "image/png", "text/html", "", ";;;", "multipart/mixed"):
        assert post(client, contents[0], {"content-type": header}).status_code == 200, header


def test_base64_may_be_a_data_url_or_have_line_breaks(client, contents):
    text = base64.encodebytes(contents[0]).decode()
    assert "\n" in text
    assert post(client, json.dumps({"image": text}), JSON).status_code == 200
    url = f"data:image/png;base64,{base64_of(contents[0])}"
    assert post(client, json.dumps({"images": [url]}), {"content-type": "Application/JSON; charset=utf-8"}).is_success


def test_content_of_a_form_may_contain_line_breaks_and_dashes(client):
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(content, "PPM")
    body = content.getvalue()[:-40] + b"\r\n--\r\n--x\r\n\r\n--" + bytes(25)
    assert len(body) == len(content.getvalue())
    sent = post(client, form(part(body, "a.ppm")), FORM).json()["predictions"][0]
    assert without_time(sent) == without_time(post(client, body, {}).json())
    wrapped = b"preamble\r\n" + form(part(body, "a.ppm")) + b"epilogue"
    quoted = {"content-type": f'multipart/form-data; charset=x; boundary="{BOUNDARY}"'}
    assert without_time(post(client, wrapped, quoted).json()["predictions"][0]) == without_time(sent)


@pytest.mark.parametrize(
    "name", ["größe 猫.png", 'a"b;c.png'.replace('"', "%22"), "../../etc/passwd", "x" * 1000, "<script>"]
)
def test_file_names_are_only_repeated(client, contents, name):
    result = post(client, form(part(contents[0], name)), FORM)
    assert result.json()["predictions"][0]["file"] == name[:255]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe\x00", 400, "not valid JSON"),
        (b'{"image": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
        (b"[" * 50_000, 413, "more than 3 images"),
        (b"[" * 100, 400, "not valid JSON"),
        (b'{"images": [' + b'"",' * 999 + b'""]}', 413, "more than 3 images"),
        (b'{"images": ["", "", "", ""]}', 413, "more than 3 images"),
        (b"{}", 422, "must be"),
        (b"null", 422, "must be"),
        (b'"text"', 422, "must be"),
        (b'{"image": "", "images": []}', 422, "must be"),
        (b'{"imgae": ""}', 422, "key 'imgae'; send 'image' or 'images'"),
        (b'{"image": 3}', 422, "'image' must be one base64 text"),
        (b'{"image": ["", ""]}', 422, "'image' must be one base64 text"),
        (b'{"images": "text"}', 422, "'images' must be a list"),
        (b'{"images": []}', 422, "'images' must be a list"),
        (b'{"images": [3]}', 422, "'images' must be a list"),
        (b'{"image": "?"}', 422, "image is not valid base64"),
        (b'{"image": "abc"}', 422, "image is not valid base64"),
        ('{"image": "größe"}'.encode(), 422, "image is not valid base64"),
        (b'{"image": "\\ud800"}', 422, "image is not valid base64"),
        (b'{"images": ["AAAA", "A==="]}', 422, "Image 2 is not valid base64"),
        (b'{"image": ""}', 415, "readable image: empty"),
        (b'{"images": ["AAAA"]}', 415, "Image 1 is not a readable image"),
        (b'{"image": "' + b"A" * 85_000 + b'"}', 413, "more than 60000 bytes"),
        (b'{"image": "' + b"A" * 81_000 + b'"}', 413, "more than 60000 bytes"),
        (b'{"images": ["' + b"A" * 42_000 + b'", "' + b"A" * 42_000 + b'"]}', 413, "more than 60000 bytes"),
        (b'{"image": "' + b"A" * 100_000 + b'"}', 413, "body has more than 90000 bytes"),
    ],
)  # fmt: skip
def test_hostile_json_is_refused(client, body, status, message):
    response = post(client, body, JSON)
    assert (response.status_code, message in detail(response)) == (status, True), response.text


def test_many_files_and_wrong_forms_are_refused(client, contents):
    good = part(contents[0], "a.png")
    for body, headers, status, message in (
        (form(good), {"content-type": "multipart/form-data"}, 400, "needs a boundary"),
        (form(good), {"content-type": "multipart/form-data; boundary="}, 400, "needs a boundary"),
        (form(good), {"content-type": f"multipart/form-data; boundary={'b' * 71}"}, 400, "needs a boundary"),
        (form(good), {"content-type": "multipart/form-data; " + "a;" * 3000 + "boundary=x"}, 400, "needs a boundary"),
        (form(good), {"content-type": "multipart/form-data; boundary*=utf-8''%E7%8C%AB"}, 400, "needs a boundary"),
        (form(good), {"content-type": "multipart/form-data; boundary=other"}, 400, "does not contain the boundary"),
        (b"", FORM, 400, "does not contain the boundary"),
        (contents[0], FORM, 400, "does not contain the boundary"),
        (form(good)[:-8], FORM, 400, "ends before its last boundary"),
        (form(), FORM, 422, "holds no file"),
        (form(b"X-Header: 1\r\n\r\n" + contents[0]), FORM, 400, "Content-Disposition"),
        (form(b"\r\n" + contents[0]), FORM, 400, "Content-Disposition"),
        (form(b"no headers"), FORM, 400, "no valid headers"),
        (form(b"X: " + b"a" * 5000 + b"\r\n\r\n"), FORM, 400, "no valid headers"),
        (form(b'Content-Disposition: form-data; name="file"\r\n\r\nimage.jpg'), FORM, 422, "'file' is not a file"),
        (form(good, part(b"text", "b.txt")), FORM, 415, "Image 2 ('b.txt') is not a readable image"),
        (form(part(b"", "empty")), FORM, 415, "Image 1 ('empty') is not a readable image: empty"),
        (form(*[good] * 4), FORM, 413, "more than 3 images"),
        (form(*[part(b"", "a")] * 500), FORM, 413, "more than 3 images"),
        (form(part(bytes(60_000), "a")), FORM, 413, "more than 60000 bytes"),
    ):  # fmt: skip
        response = post(client, body, headers)
        assert (response.status_code, message in detail(response)) == (status, True), (body[:80], response.text)


def test_thousand_files_are_refused_at_once(served_run):
    client = TestClient(make_app(ServedModel(RunFolder.open(served_run), 10**6)))
    response = post(client, form(*[part(bytes(1000), "a.png")] * 1000), FORM)
    assert response.status_code == 413
    assert "more than 16 images" in detail(response)


def test_huge_bodies_are_refused_with_default_limits(served_run):
    client = TestClient(make_app(ServedModel(RunFolder.open(served_run), 10**6)))
    for body, headers, status in (
        (b'{"image": "' + b"A" * 27_000_000 + b'"}', JSON, 413),
        (b'{"image": "' + b" " * 29_000_000 + b'"}', JSON, 413),
        (b"[" * 29_000_000, JSON, 413),
        (b"9" * 29_000_000, JSON, 400),
        (b"\r\n--" + BOUNDARY.encode() + b"\r\n" * 9_000_000, FORM, 400),
    ):
        response = post(client, body, headers)
        assert response.status_code == status, (body[:20], response.text)
        detail(response)


def test_wrong_content_type_is_named(client, contents):
    as_bytes = post(client, json.dumps({"image": base64_of(contents[0])}), {})
    assert as_bytes.status_code == 415
    assert "Content-Type: application/json" in detail(as_bytes)
    as_data = post(client, contents[0].replace(b"\n", b""), {"content-type": "application/x-www-form-urlencoded"})
    assert as_data.status_code == 415
    assert "--data-binary" in detail(as_data)
    as_uri = post(client, b"data:image/png;base64," + base64.b64encode(contents[0]), {"content-type": "text/plain"})
    assert as_uri.status_code == 415
    assert '{"image": "data:..."}' in detail(as_uri)
    inside = post(client, json.dumps({"image": f"data:image/png;base64,{base64_of(contents[0])}"}), JSON)
    assert inside.status_code == 200
    as_bytes = post(client, form(part(contents[0], "a.png")), {"content-type": "text/plain"})
    assert as_bytes.status_code == 415
    assert "Content-Type: multipart/form-data" in detail(as_bytes)
    as_json = post(client, contents[0], JSON)
    assert as_json.status_code == 400
    detail(as_json)


def test_image_with_too_many_pixels_is_refused_in_base64(served_run):
    client = TestClient(make_app(ServedModel(RunFolder.open(served_run), pixels=10_000)))
    buffer = io.BytesIO()
    Image.new("1", (2000, 2000)).save(buffer, "PNG")
    response = post(client, json.dumps({"image": base64_of(buffer.getvalue())}), JSON)
    assert response.status_code == 415
    assert "4000000" in detail(response) or "2000 x 2000 pixels" in detail(response)


def test_images_above_the_waiting_limit_are_refused_and_places_are_given_back(served_run, contents):
    limits = ServerLimits(images=8, waiting=2)
    client = TestClient(make_app(ServedModel(RunFolder.open(served_run), limits.pixels), limits))
    for _ in range(3):
        response = post(client, form(*[part(contents[0], "a.png")] * 3), FORM)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "too many images are waiting" in detail(response).lower()
        assert post(client, form(part(b"no image", "a"), part(contents[0], "b")), FORM).status_code == 415
        assert post(client, form(*[part(contents[0], "a.png")] * 2), FORM).status_code == 200
