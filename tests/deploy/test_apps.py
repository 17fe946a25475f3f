"""Example projects give the answers of ``triscale predict``, and the command that exports them."""

from __future__ import annotations

import functools
import http.server
import json
import plistlib
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deploy.photos import smooth, write_photos
from serve.browser import CHROMIUM, browsing
from triscale.data.images.transforms import center_box, eval_transform, normalize
from triscale.deploy.apps import APPS
from triscale.deploy.apps.write_app import write_app
from triscale.deploy.contract import Contract
from triscale.deploy.engines import coreml, get_engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.onnx_file import contract_entries
from triscale.families import get
from triscale.jobs.inference.predict import ImageClassifier, Prediction, prediction_of
from triscale.network.contract import Confidence, Decision, Preprocessing
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale

EXACT, BLENDED = 1e-4, 5e-3
"""Tolerances of probabilities: of photos, and of one with half-transparent pixels, whose blending browsers round (five
times what it is at a temperature of 1)."""
CLASSES = ("red fox", 'the "cat"', "ü? \\ $x", "d")
CONTRACTS = {
    # A low temperature, since the probabilities of random weights are nearly equal otherwise.
    "softmax": Contract(
        network="square",
        preprocessing=Preprocessing(resolution=32, crop=0.875),
        classes=CLASSES,
        decision=Decision(
            confidence=Confidence(temperature=0.2, coverage=0.9, set_threshold=0.3, kept=0.9, unknown_threshold=1.697)
        ),
    ),
    "labels": Contract(
        network="gray",
        preprocessing=Preprocessing.usual((1, 24, 40)).replace(interpolation="bilinear"),
        classes=CLASSES,
        decision=Decision(
            link="sigmoid",
            thresholds=(0.3, 0.5, 0.7, 0.5),
            confidence=Confidence(temperature=0.2, coverage=0.9, set_threshold=0.6, kept=0.9, unknown_threshold=2.726),
        ),
    ),
    "nearest": Contract(
        network="plain", preprocessing=Preprocessing(resolution=24, interpolation="nearest"), classes=CLASSES
    ),
}


def exportable(contract: Contract) -> Exportable:
    torch.manual_seed(0)
    channels, height, width = contract.preprocessing.input_shape
    network = scale(get(f"mobilenet_v2@{width}x{height}"), Scale(depth=0.5, width=0.25, resolution=1))
    network = network.replace(classes=len(contract.classes), in_channels=channels)
    return Exportable(build(network).eval(), contract, network)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Returns the file of a contract for an engine."""

    @functools.cache
    def make(name: str, engine: str) -> Path:
        chosen = get_engine(engine)
        file = tmp_path_factory.mktemp("model") / f"model{chosen.suffix}"
        chosen.write(exportable(CONTRACTS[name]), file)
        return file

    return make


def write_project(app: str, name: str, model_of, folder: Path) -> Path:
    chosen = APPS[app]
    write_app(chosen, CONTRACTS[name], model_of(name, chosen.engine), "float32", folder)
    return folder


def printed(text: str) -> dict[str, dict]:
    """Read what a program prints: for each photo the probabilities, the answer, the likely classes, unknown."""
    found: dict[str, dict] = {}
    for line in text.splitlines():
        if line[:1] not in "* ":
            photo = found.setdefault(line, {"top": [], "chosen": set(), "likely": None, "unknown": False})
        elif (words := line.strip()).startswith("unknown:"):
            photo["unknown"] = True
        elif words.startswith(("one of: ", "labels among: ")):
            photo["likely"] = words.partition(": ")[2]
        else:
            probability, _, name = line[2:].partition("  ")
            photo["top"].append((name, float(probability)))
            if line[0] == "*":
                photo["chosen"].add(name)
    return found


def check_same(found: dict, expected: Prediction, contract: Contract) -> None:
    file = Path(expected.file)
    tolerance = BLENDED if file.name == "clear.png" else EXACT
    by_name = {one.name: one.probability for one in expected.classes}
    for name, probability in found["top"]:
        assert probability == pytest.approx(by_name[name], abs=tolerance), file
    assert found["top"][0][0] == expected.classes[0].name
    is_multi_label = contract.decision.link == "sigmoid"
    assert found["chosen"] == set(expected.labels if is_multi_label else [expected.classes[0].name])
    wanted = None if expected.prediction_set is None else ", ".join(expected.prediction_set) or "none"
    assert found["likely"] == wanted
    assert found["unknown"] == bool(expected.unknown)


def predictions(model: Path, photos: list[Path], prepare=None) -> list[Prediction]:
    """The answers of ``predict``; with another way to prepare the input, those for it."""
    classifier = ImageClassifier.open(model, 1)
    made = []
    for photo in photos:
        image = classifier.read(photo)
        values = (prepare or normalized)(image, classifier.preprocessing)
        logits = torch.from_numpy(classifier.logits(torch.from_numpy(values[None])))[0]
        made.append(prediction_of(logits, classifier.classes, classifier.decision, len(CLASSES), str(photo)))
    return made


def normalized(image, preprocessing: Preprocessing) -> np.ndarray:
    return normalize(eval_transform(preprocessing)(image), preprocessing).numpy()


def in_two_passes(image, preprocessing: Preprocessing) -> np.ndarray:
    """The input of a model, resized as the projects without Pillow do: in the order of Pillow 13.

    Earlier versions resize along the rows first: where both round, a value of 255 may differ by 1.
    """
    _, height, width = preprocessing.input_shape
    left, top, right, bottom = center_box(image.size, preprocessing)
    filter_of = Image.Resampling[preprocessing.interpolation.upper()]
    if image.height > height and image.height - height > 2 * (image.width - width):
        image = image.resize((image.width, height), filter_of, (0, top, image.width, bottom))
        image = image.resize((width, height), filter_of, (left, 0, right, height))
    else:
        image = image.resize((width, image.height), filter_of, (left, 0, right, image.height))
        image = image.resize((width, height), filter_of, (0, top, width, bottom))
    pixels = torch.from_numpy(np.array(image).reshape(height, width, -1).transpose(2, 0, 1))
    return normalize(pixels, preprocessing).numpy()


@given(st.integers(5, 90), st.integers(5, 90), st.sampled_from(sorted(CONTRACTS)))
@settings(max_examples=200, deadline=None)
def test_order_of_resizing_is_that_of_pillow(width, height, name):
    preprocessing = CONTRACTS[name].preprocessing
    image = Image.fromarray(smooth(height, width, 0)).convert("L" if preprocessing.channels == 1 else "RGB")
    found, expected = in_two_passes(image, preprocessing), normalized(image, preprocessing)
    levels = 0 if int(version("pillow").split(".")[0]) >= 13 else 1
    assert np.abs(found - expected).max() * 255 * max(preprocessing.std) <= levels + 1e-3


def test_photos_have_different_answers(model_of, photos):
    """Otherwise a program that answers always the same would pass."""
    for name in ("softmax", "labels"):
        made = predictions(model_of(name, "onnxruntime"), photos)
        values = np.array([[one.probability for one in sorted(each.classes, key=lambda c: c.name)] for each in made])
        assert np.ptp(values, axis=0).max() > 0.1
        assert {bool(one.unknown) for one in made} == {True, False}
        assert len({one.prediction_set for one in made}) > 1


@pytest.mark.parametrize("name", CONTRACTS)
def test_python_program_agrees_with_predict(name, model_of, photos, tmp_path):
    folder = write_project("python", name, model_of, tmp_path / "python")
    (tmp_path / "notes.jpg").write_text("no photo")
    command = [sys.executable, "classify.py", *map(str, photos), str(tmp_path / "notes.jpg")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert "not a photo" in done.stdout.splitlines()[-1]
    found = printed("\n".join(done.stdout.splitlines()[:-2]))
    for expected in predictions(model_of(name, "onnxruntime"), photos):
        check_same(found[expected.file], expected, CONTRACTS[name])


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_web_page_prepares_photos_like_predict(model_of, photos, tmp_path):
    """The input of the model is computed in the browser, without the runtime."""
    for name in CONTRACTS:
        folder = write_project("web", name, model_of, tmp_path / name)
        for photo in photos:
            shutil.copy(photo, folder)
    with served(tmp_path) as address, browsing(tmp_path) as browser:
        for name, contract in CONTRACTS.items():
            browser.open(f"{address}{name}/index.html")
            classifier = ImageClassifier.open(model_of(name, "onnxruntime"), 1)
            for photo in photos:
                found = browser.evaluate(f"""(async () => {{
                    const model = await (await fetch("model.json")).json();
                    return Array.from(prepare(await decode(await (await fetch("{photo.name}")).blob()), model));
                }})()""")
                image = classifier.read(photo)
                expected = in_two_passes(image, contract.preprocessing)
                levels = 255 * np.abs(np.reshape(found, expected.shape) - expected).max()
                # The browser rounds when it blends half-transparent pixels; all others are the same to the bit.
                assert levels < (10 if photo.name == "clear.png" else 1e-3), (name, photo.name)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", CONTRACTS)
def test_web_page_classifies_a_chosen_photo(name, model_of, photos, tmp_path):
    folder = write_project("web", name, model_of, tmp_path / "web")
    put_runtime(folder)
    with served(folder) as address, browsing(tmp_path) as browser:
        browser.open(address)
        browser.wait_for("document.documentElement.dataset.ready")
        for expected in predictions(model_of(name, "onnxruntime"), photos, in_two_passes):
            file = Path(expected.file)
            browser.evaluate("document.getElementById('status').textContent = ''")
            browser.choose_file("#file", file)
            browser.wait_for(f"document.getElementById('status').textContent.startsWith('{file.name}: ')")
            rows = browser.evaluate(
                "[...document.querySelectorAll('#scores li')].map(row => [row.firstChild.textContent, "
                "Number(row.dataset.probability), row.className])"
            )
            doubts = browser.evaluate("[...document.querySelectorAll('#doubts li')].map(row => row.textContent)")
            listed = [text.partition(": ")[2].rpartition(" (right")[0] for text in doubts if " (right for " in text]
            single = expected.prediction_set is not None and not listed  # one class is no news
            found = {
                "top": [(label, probability) for label, probability, _ in rows],
                "chosen": {label for label, _, chosen in rows if chosen},
                "likely": rows[0][0] if single else next(iter(listed), None),
                "unknown": any(text.startswith("Unknown") for text in doubts),
            }
            check_same(found, expected, CONTRACTS[name])
        (tmp_path / "notes.png").write_text("no photo")
        browser.choose_file("#file", tmp_path / "notes.png")
        assert "not an image" in browser.wait_for(
            "!document.getElementById('problem').hidden && document.getElementById('problem').textContent"
        )
        assert not browser.messages


def put_runtime(folder: Path) -> None:
    """Put onnxruntime-web next to the page, with the commands of its README."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    lines = (folder / "README.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("npm pack"))
    commands = "\n".join(lines[start : lines.index("```", start)])
    if subprocess.run(["bash", "-ec", commands], cwd=folder, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("onnxruntime-web cannot be fetched here")


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="there is no C++ compiler with CMake")
@pytest.mark.parametrize("name", CONTRACTS)
def test_cpp_program_agrees_with_predict(name, model_of, photos, tmp_path):
    pytest.importorskip("openvino")
    folder = write_project("cpp", name, model_of, tmp_path / "cpp")
    # The command of README.md, with the Python that has OpenVINO.
    made = [["cmake", "-B", "build", f"-DPython3_EXECUTABLE={sys.executable}"], ["cmake", "--build", "build"]]
    for command in made:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if "Could NOT find JPEG" in done.stderr or "Could NOT find PNG" in done.stderr:
            pytest.skip("libjpeg or libpng is not installed")
        assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "notes.jpg").write_text("no photo")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
    given = [*photos, tmp_path / "notes.jpg", tmp_path / "cut.jpg", tmp_path / "absent.jpg"]
    done = subprocess.run([folder / "build" / "classify", *given], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[-5::2]] == ["  not a photo"] * 3
    found = printed("\n".join(lines[:-6]))
    for expected in predictions(model_of(name, "openvino"), photos, in_two_passes):
        check_same(found[expected.file], expected, CONTRACTS[name])


KOTLIN = """
package org.example.classifier

import java.io.File
import java.nio.ByteBuffer

// Arguments: logits, then files of ARGB pixels with their width and height.
fun main(arguments: Array<String>) {
    val contract = Contract(
        List(%(classes)d) { "" }, %(channels)d, %(height)d, %(width)d, doubleArrayOf(%(mean)s), doubleArrayOf(%(std)s),
        %(crop)s, "%(interpolation)s", %(multi)s, %(thresholds)s, %(temperature)s, %(set)s, %(unknown)s
    )
    val found = answer(arguments[0].split(",").map { it.toFloat() }.toFloatArray(), contract)
    println(found.probabilities.joinToString(","))
    println(listOf(found.ranking, found.chosen, found.likely, found.unknown).joinToString(";"))
    for (photo in arguments.drop(1)) {
        val (file, width, height) = photo.split(":")
        val pixels = ByteBuffer.wrap(File(file).readBytes()).asIntBuffer()
        val values = prepare(IntArray(pixels.remaining()) { pixels[it] }, width.toInt(), height.toInt(), contract)
        val bytes = ByteBuffer.allocate(4 * values.size)
        values.forEach { bytes.putFloat(it) }
        File("$file.input").writeBytes(bytes.array())
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("kotlinc") and shutil.which("java")), reason="Kotlin is not installed")
@pytest.mark.parametrize("name", CONTRACTS)
def test_kotlin_of_the_android_app_agrees_with_predict(name, model_of, photos, tmp_path):
    folder = write_project("android", name, model_of, tmp_path / "android")
    contract = CONTRACTS[name]
    images, decision = contract.preprocessing, contract.decision
    confidence = decision.confidence or Confidence(coverage=0.9, kept=0.9)
    listed = decision.thresholds and f"doubleArrayOf({', '.join(map(str, decision.thresholds))})"
    values = {
        "classes": len(CLASSES), "channels": images.channels, "height": images.size.height, "width": images.size.width,
        "mean": ", ".join(map(str, images.mean)), "std": ", ".join(map(str, images.std)), "crop": images.crop,
        "interpolation": images.interpolation, "multi": str(decision.link == "sigmoid").lower(),
        "thresholds": listed or "null", "temperature": decision.temperature,
        "set": "null" if confidence.set_threshold is None else confidence.set_threshold,
        "unknown": "null" if confidence.unknown_threshold is None else confidence.unknown_threshold,
    }  # fmt: skip
    (tmp_path / "Main.kt").write_text(KOTLIN % values)
    sources = [next(folder.rglob(one)) for one in ("Contract.kt", "Preparation.kt", "Answer.kt")]
    program = tmp_path / "program.jar"
    command = ["kotlinc", *sources, tmp_path / "Main.kt", "-include-runtime", "-d", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    classifier = ImageClassifier.open(model_of(name, "onnxruntime"), 1)
    given = []
    for number, photo in enumerate(photos):
        image = Image.open(photo) if photo.name == "clear.png" else classifier.read(photo)
        image = image.convert("RGBA")
        file = tmp_path / f"{number}.argb"
        file.write_bytes(np.asarray(image)[..., [3, 0, 1, 2]].tobytes())
        given.append(f"{file}:{image.width}:{image.height}")
    logits = torch.tensor([0.3, -0.2, 0.55, 0.5])
    run = ["java", "-cp", program, "org.example.classifier.MainKt", ",".join(map(str, logits.tolist())), *given]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    expected = prediction_of(logits, CLASSES, decision, len(CLASSES))
    by_name = {one.name: one.probability for one in expected.classes}
    found = [float(value) for value in first.split(",")]
    assert found == pytest.approx([by_name[one] for one in CLASSES], abs=1e-9)
    ranking, chosen, likely, unknown = second.split(";")
    assert json.loads(ranking) == [CLASSES.index(one.name) for one in expected.classes]
    assert {CLASSES[index] for index in json.loads(chosen)} == set(expected.labels or [expected.classes[0].name])
    members = None if likely == "null" else tuple(CLASSES[index] for index in json.loads(likely))
    assert (members, unknown) == (expected.prediction_set, str(bool(expected.unknown)).lower())
    for number, photo in enumerate(photos):
        wanted = in_two_passes(classifier.read(photo), images)
        values = np.fromfile(tmp_path / f"{number}.argb.input", ">f4").reshape(wanted.shape)
        assert np.abs(values - wanted).max() < 1e-5, photo


def test_android_project_is_well_formed(model_of, tmp_path):
    contract = CONTRACTS["labels"]
    folder = write_project("android", "labels", model_of, tmp_path / "android")
    manifest = ElementTree.parse(folder / "app/src/main/AndroidManifest.xml").getroot()
    name = "{http://schemas.android.com/apk/res/android}name"
    assert manifest.find("uses-permission") is None
    assert manifest.find("application/activity").attrib[name] == ".MainActivity"
    strings = {
        one.attrib["name"] for one in ElementTree.parse(folder / "app/src/main/res/values/strings.xml").getroot()
    }
    sources = {file.name: file.read_text() for file in folder.rglob("*.kt")}
    for text in sources.values():
        assert text.startswith("package org.example.classifier\n")
        assert [text.count(one) for one in "({["] == [text.count(one) for one in ")}]"]
        assert set(re.findall(r"R\.string\.(\w+)", text)) <= strings
    for script in folder.rglob("*.kts"):
        text = script.read_text()
        assert [text.count(one) for one in "({["] == [text.count(one) for one in ")}]"]
    check_facts(folder / "app/src/main/assets", contract)
    asked = set(re.findall(r'"(\w+)"', sources["ContractFile.kt"])) - {"sigmoid"}
    assert asked <= contract_entries(contract).keys()


@pytest.mark.skipif(not get_engine("coreml").installed, reason="coremltools is not installed")
def test_ios_project_is_well_formed(tmp_path, model_of):
    contract = CONTRACTS["labels"]
    folder = write_project("ios", "labels", model_of, tmp_path / "ios")
    with (folder / "Classifier.xcodeproj" / "project.pbxproj").open("rb") as file:
        project = plistlib.load(file)
    objects = project["objects"]
    assert objects[project["rootObject"]]["isa"] == "PBXProject"
    named = re.compile("[0-9A-F]{24}")

    def names_in(value: object) -> set[str]:
        if isinstance(value, dict):
            return set().union(*map(names_in, value.values()))
        if isinstance(value, list):
            return set().union(*map(names_in, value))
        return {value} if isinstance(value, str) and named.fullmatch(value) else set()

    assert names_in(objects) | {project["rootObject"]} == set(objects)  # nothing is missing, nothing is left over
    (group,) = (one for one in objects.values() if one["isa"] == "PBXFileSystemSynchronizedRootGroup")
    place = folder / group["path"]
    assert (place / "model.mlpackage" / "Manifest.json").is_file()
    check_facts(place, contract)
    sources = {file.name: file.read_text() for file in place.glob("*.swift")}
    for text in sources.values():
        assert [text.count(one) for one in "({["] == [text.count(one) for one in ")}]"]
    fields = re.findall(r"let (\w+):", sources["Contract.swift"])
    keys = [re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", field) for field in fields]
    assert set(keys) <= contract_entries(contract).keys()
    outputs = (coreml.IMAGE, coreml.LABEL_PROBABILITIES, coreml.PROBABILITIES)
    assert all(f'"{one}"' in sources["PhotoClassifier.swift"] for one in outputs)


@pytest.mark.skipif(not get_engine("coreml").installed, reason="coremltools is not installed")
def test_ios_project_has_no_threshold_for_logits(tmp_path, model_of):
    """A classifier of Core ML gives probabilities, which do not tell whether an image is unknown."""
    folder = write_project("ios", "softmax", model_of, tmp_path / "ios")
    assert "unknown_threshold" not in json.loads((folder / "Classifier" / "model.json").read_text())
    assert "threshold for unknown images" in (folder / "README.md").read_text()


def check_facts(folder: Path, contract: Contract) -> None:
    """The facts next to a model are those of its contract."""
    facts = json.loads((folder / "model.json").read_text())
    images = contract.preprocessing
    assert facts["names"] == list(contract.classes)
    assert facts["input_size"] == list(images.input_shape)
    assert (facts["mean"], facts["std"]) == (list(images.mean), list(images.std))
    assert (facts["crop"], facts["interpolation"]) == (images.crop, images.interpolation)
    assert facts["activation"] == contract.decision.link
    assert facts.get("thresholds") == (contract.decision.thresholds and list(contract.decision.thresholds))
    assert facts.get("temperature", 1) == contract.decision.temperature
