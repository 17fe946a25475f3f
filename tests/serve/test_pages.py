"""The web pages in a real browser: choose, drop, paste and photograph images; read about the API."""

from __future__ import annotations

import http.client
import json
import re
import shutil

import pytest
from starlette.testclient import TestClient

import triscale as ts
from colors import write_colors
from serve.browser import CHROMIUM, browsing
from serve.conftest import serving
from triscale.jobs.core.run import RunFolder
from triscale.serve.app import make_app
from triscale.serve.limits import DEFAULTS
from triscale.serve.model import ServedModel

pytestmark = pytest.mark.process
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")

RESULTS = "document.querySelectorAll('#results > li:not([aria-busy])').length"
PROBLEM = "!document.querySelector('#problem').hidden && document.querySelector('#problem').textContent"
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
# A picture made in the page, given to a function that dispatches an event with it.
PICTURE = """(async give => {
  const canvas = document.createElement("canvas"); canvas.width = canvas.height = 8;
  const blob = await new Promise(done => canvas.toBlob(done));
  const data = new DataTransfer(); data.items.add(new File([blob], "made.png", { type: "image/png" })); give(data);
})"""
PASTE = "new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })"
UNNAMED = """[...document.querySelectorAll("button, input, video, img, a")].filter(one => !one.closest("[hidden]") && !(
  one.labels?.length || one.textContent.trim() || one.alt || one.getAttribute("aria-label")))
  .map(one => one.outerHTML)"""
# WCAG contrast of every text with the nearest background.
FAINT = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = one => { for (; one; one = one.parentElement) { const c = parts(getComputedStyle(one).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c } return [255, 255, 255] };
  return [...document.querySelectorAll("body *")].filter(one => one.checkVisibility() &&
    [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())).map(one => {
      const [a, b] = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
      return [one.tagName, one.textContent.trim().slice(0, 30), (a + .05) / (b + .05)] }).filter(one => one[2] < 4.5);
})()"""


def pictures(run, number):
    return sorted((run.parent / "images").rglob("*.png"))[:: 90 // number][:number]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_shows_predictions_classes_and_scaled_network(server, served_run, tmp_path, width):
    classes = RunFolder.open(served_run).spec.classes
    with browsing(tmp_path) as page:
        page.open(f"{server.address}/", width)
        page.wait_for("document.querySelectorAll('#scaled tr').length === 6")
        assert page.evaluate("document.title") == page.evaluate("document.querySelector('h1').textContent") == "images"
        listed = page.evaluate("[...document.querySelectorAll('#names li')].map(one => one.textContent)")
        assert tuple(listed) == classes
        before = page.evaluate("document.querySelector('#scaled').textContent")
        page.evaluate(
            "{ const s = document.querySelector('#budget'); s.value = 900; s.dispatchEvent(new Event('input')) }"
        )
        page.wait_for(f"document.querySelector('#scaled').textContent !== {json.dumps(before)}")
        files = pictures(served_run, 3)
        page.choose_file("#file", *files)
        page.wait_for(f"{RESULTS} === 3")
        page.wait_for("[...document.querySelectorAll('#results img')].every(one => one.naturalWidth)")
        assert page.evaluate("document.querySelectorAll('#results img').length") == 6
        shown = page.evaluate("[...document.querySelectorAll('#results h3')].map(one => one.textContent)")
        assert shown == [file.name for file in files]
        best = page.evaluate(
            "[...document.querySelectorAll('.scores li:first-child .name')].map(one => one.textContent)"
        )
        assert len(best) == 3
        assert set(best) <= set(classes)
        assert page.evaluate("document.querySelector('#status').textContent") == "3 images"
        assert page.evaluate(FITS)
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(FAINT) == []
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert page.evaluate(FAINT) == []
        assert page.messages == []
        not_an_image = tmp_path / f"{'long' * 40}.png"
        not_an_image.write_text("no image")
        page.choose_file("#file", not_an_image)
        page.wait_for(f"{RESULTS} === 4")
        assert "not an image" in page.evaluate("document.querySelector('#results > li .problem').textContent")
        assert page.evaluate(FITS)
        assert all("415" in line for line in page.messages)
        page.evaluate("document.querySelector('#clear').click()")
        assert page.evaluate("document.querySelectorAll('#results > li').length") == 0


@needs_browser
def test_images_are_dropped_and_pasted(server, tmp_path):
    with browsing(tmp_path) as page:
        page.open(f"{server.address}/")
        drop = "new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })"
        page.evaluate(f"{PICTURE}(data => document.querySelector('#drop').dispatchEvent({drop}))")
        page.wait_for(f"{RESULTS} === 1")
        page.evaluate(f"{PICTURE}(data => document.body.dispatchEvent({drop}))")  # outside the area
        page.wait_for(f"{RESULTS} === 2")
        page.evaluate(f"{PICTURE}(data => document.body.dispatchEvent({PASTE}))")
        page.wait_for(f"{RESULTS} === 3")
        page.evaluate(f"{{ const data = new DataTransfer(); document.body.dispatchEvent({PASTE}) }}")
        assert "clipboard holds no image" in page.wait_for(PROBLEM)
        page.evaluate(f"{{ const data = new DataTransfer(); document.body.dispatchEvent({drop}) }}")
        page.wait_for("document.querySelector('#problem').textContent.includes('not a file')")
        assert page.evaluate("!document.querySelector('#paste').hidden")
        page.evaluate("navigator.clipboard.read = () => Promise.reject(new DOMException('', 'NotAllowedError'))")
        page.evaluate("document.querySelector('#paste').click()")
        page.wait_for("document.querySelector('#problem').textContent.includes('Press Ctrl+V')")
        assert page.messages == []


@needs_browser
def test_webcam_takes_pictures(server, tmp_path):
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browsing(tmp_path, *flags) as page:
        page.open(f"{server.address}/")
        page.evaluate("document.querySelector('#webcam').click()")
        page.wait_for("!document.querySelector('#camera').hidden && document.querySelector('#video').videoWidth")
        assert page.evaluate("document.activeElement.id") == "shoot"
        for number in (1, 2):
            page.evaluate("document.querySelector('#shoot').click()")
            page.wait_for(f"{RESULTS} === {number}")
        names = page.evaluate("[...document.querySelectorAll('#results h3')].map(one => one.textContent)")
        assert names == ["webcam picture 2", "webcam picture 1"]
        page.evaluate("window.track = document.querySelector('#video').srcObject.getTracks()[0]")
        page.evaluate("document.querySelector('#stop').click()")
        assert page.evaluate("track.readyState") == "ended"
        assert page.evaluate("document.querySelector('#camera').hidden")
        assert page.messages == []


@needs_browser
def test_refused_and_missing_webcam_is_explained(server, tmp_path):
    with browsing(tmp_path) as page:
        page.open(f"{server.address}/")
        for name, expected in (("NotAllowedError", "Allow it"), ("NotFoundError", "No webcam"),
                               ("NotReadableError", "other programs"), ("AbortError", "cannot be used")):  # fmt: skip
            page.evaluate(
                f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'));"
                "document.querySelector('#webcam').click()"
            )
            page.wait_for(f"document.querySelector('#problem').textContent.includes('{expected}')")
        page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true })")
        page.evaluate("document.querySelector('#webcam').click()")
        page.wait_for("document.querySelector('#problem').textContent.includes('does not support webcams')")
        assert page.evaluate("document.querySelector('#camera').hidden")


@needs_browser
def test_page_that_is_not_secure_explains_why_there_is_no_webcam(server, tmp_path):
    with browsing(tmp_path, "--host-resolver-rules=MAP lan.example 127.0.0.1") as page:
        page.open(f"http://lan.example:{server.port}/")
        assert page.evaluate("document.querySelector('#paste').hidden")
        page.evaluate("document.querySelector('#webcam').click()")
        assert "only on https pages and on localhost" in page.wait_for(PROBLEM)
        page.evaluate(f"{PICTURE}(data => document.body.dispatchEvent({PASTE}))")
        page.wait_for(f"{RESULTS} === 1")
        assert page.messages == []


@needs_browser
def test_keyboard_reaches_every_control(server, tmp_path):
    with browsing(tmp_path) as page:
        page.open(f"{server.address}/")
        page.wait_for("document.querySelectorAll('#scaled tr').length === 6")
        reached = []
        for _ in range(7):
            for kind in ("keyDown", "keyUp"):
                page.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert reached == ["file", "paste", "webcam", "names", "budget", "API documentation", "Metrics"]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_documentation_works_offline(server, tmp_path, width):
    with browsing(tmp_path) as page:
        page.open(f"{server.address}/docs", width)
        assert page.evaluate("document.title") == "API of images: tiny"
        assert page.evaluate(FITS)
        assert page.evaluate(FAINT) == []
        broken = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(one => !document.querySelector(one.hash))"
        assert page.evaluate(f"{broken}.map(one => one.hash)") == []
        assert page.evaluate("performance.getEntriesByType('resource').length") == 0
        assert page.messages == []


@pytest.fixture(scope="module")
def client(served_run):
    return TestClient(make_app(ServedModel(RunFolder.open(served_run), DEFAULTS.pixels)))


def test_documentation_shows_the_whole_description(client):
    text = client.get("/docs").text
    api = client.get("/openapi.json").json()
    for path, methods in api["paths"].items():
        assert f"<code>{path}</code>" in text
        for operation in methods.values():
            shown = [operation["summary"], *operation["responses"]]
            shown += [parameter["name"] for parameter in operation.get("parameters", ())]
            shown += list(operation.get("requestBody", {}).get("content", ()))
            assert not [one for one in shown if one not in text]
    for name, schema in api["components"]["schemas"].items():
        assert f'id="record-{name}"' in text
        assert not [key for key in schema["properties"] if f"<code>{key}</code>" not in text]
    assert "list (1 to 16) of image file" in text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(client, path):
    response = client.get(path)
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", response.text)
    assert not re.findall(r""" (?:style|on\w+)=""", response.text)


def test_hostile_names_are_escaped(served_run, tmp_path, client):
    spec = json.loads((served_run / "run.json").read_text())
    spec["request"]["images"] = "/data/<script>alert(1)<|script>"
    run = tmp_path / "run"
    shutil.copytree(served_run, run)
    (run / "run.json").write_text(json.dumps(spec))
    hostile = TestClient(make_app(ServedModel(RunFolder.open(run), DEFAULTS.pixels)))
    for path in ("/", "/docs"):
        text = hostile.get(path).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text
    assert "<b>" not in client.get("/docs", headers={"host": "<b>x"}).text


@pytest.mark.parametrize("index", [0, 1, 2])
def test_examples_of_the_documentation_work(server, served_run, tmp_path, index):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    import html
    import subprocess

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/docs")
    text = connection.getresponse().read().decode()
    section = text[text.index('id="post-api-predict"') :]
    command = html.unescape(re.findall(r"<pre>(.*?)</pre>", section, re.DOTALL)[index])
    for name in ("image.jpg", "one.jpg", "two.jpg"):
        shutil.copy(pictures(served_run, 3)[0], tmp_path / name)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert len(answer["predictions"] if index == 1 else [answer]) == (2 if index == 1 else 1)
    assert "classes" in (answer["predictions"][1] if index == 1 else answer)


@needs_browser
@pytest.mark.stress
def test_page_shows_the_labels_of_an_image(tiny_file, tmp_path):
    images = write_colors(tmp_path / "set")
    ts.train(images, tiny_file, epochs=2, out=tmp_path / "run", data={"label_separator": " "}, progress=False)
    with serving(tmp_path / "run") as server, browsing(tmp_path / "browser") as page:
        page.open(f"{server.address}/", 800)
        page.wait_for("document.querySelector('#about').textContent.includes('mean average precision')")
        page.choose_file("#file", images / "images" / "003.png")
        page.wait_for(f"{RESULTS} === 1")
        labels = page.evaluate("document.querySelector('p.given').textContent")
        bold = page.evaluate("[...document.querySelectorAll('.scores .chosen .name')].map(one => one.textContent)")
        assert sorted(labels.split(", ")) == (sorted(bold) or ["No label"])
