"""ONNX files are valid, say how they are used, and run in other programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from PIL import Image

import triscale as ts
from conftest import COLORS, write_classes
from triscale.deploy.contract import Contract, read_contract
from triscale.deploy.engines import get_engine, open_file
from triscale.deploy.engines.onnx_runtime import write
from triscale.deploy.engines.openvino import write as export_openvino
from triscale.deploy.exportable import Exportable
from triscale.deploy.onnx_file import describe_use, plain_metadata, sort_nodes, with_half_weights
from triscale.deploy.quantize import get_quantizer
from triscale.families import get
from triscale.network.contract import Confidence, Decision, Preprocessing
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-exported-files.md"


def exportable(name: str) -> Exportable:
    torch.manual_seed(0)
    network = scale(get(name), Scale(depth=0.5, width=0.25, resolution=1)).replace(classes=3)
    contract = Contract(network=name, preprocessing=Preprocessing.usual(network.input_shape), classes=("a", "b", "ü"))
    return Exportable(build(network).eval(), contract, network)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A float and an int8 file, whose blocks are partly float."""
    folder, subject = tmp_path_factory.mktemp("files"), exportable("efficientnet_b0@64x32")
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 64), dtype=np.float32)
    write(subject, folder / "float.onnx")
    write(subject, folder / "half.onnx", half=True)
    get_quantizer(get_engine("onnxruntime"))(subject, images).write(("stem", "stages.1.blocks.0"), folder / "int8.onnx")
    np.save(folder / "images.npy", images[:2])
    return folder


@pytest.mark.parametrize("name", ["float.onnx", "half.onnx", "int8.onnx"])
def test_files_are_sorted_and_pass_the_full_check_at_low_versions(files, name):
    proto = onnx.load(files / name)
    onnx.checker.check_model(proto, full_check=True)
    known = {tensor.name for tensor in (*proto.graph.input, *proto.graph.initializer)} | {""}
    for node in proto.graph.node:
        assert set(node.input) <= known, node.name
        known |= set(node.output)
    assert [(one.domain, one.version) for one in proto.opset_import if one.domain in ("", "ai.onnx")] == [("", 13)]
    assert proto.ir_version == 7
    assert (proto.producer_name, proto.producer_version) == ("triscale", ts.__version__)
    assert "64 x 32 pixels (bicubic, antialiased)" in proto.doc_string


@given(st.data())
def test_sorted_nodes_stand_after_what_they_read(data):
    count = data.draw(st.integers(1, 12))
    inputs = [["image", *(data.draw(st.sets(st.integers(0, index - 1))) if index else ())] for index in range(count)]
    nodes = [
        helper.make_node("Sum", [str(one) for one in ones], [str(index)], name=str(index))
        for index, ones in enumerate(inputs)
    ]
    graph = helper.make_graph(data.draw(st.permutations(nodes)), "graph", [], [])
    sort_nodes(graph)
    seen = {"image"}
    for node in graph.node:
        assert set(node.input) <= seen
        seen |= set(node.output)
    assert len(seen) == count + 1
    before = [node.name for node in graph.node]
    sort_nodes(graph)
    assert [node.name for node in graph.node] == before


def test_metadata_hold_the_contract(files):
    file = files / "int8.onnx"
    contract = read_contract(open_file(file, 1).contract_text, file)
    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(entries["names"]) == list(contract.classes)
    assert json.loads(entries["input_size"]) == [3, 32, 64]
    assert json.loads(entries["mean"]) == list(contract.preprocessing.mean)
    assert {"std", "crop", "interpolation", "activation", "task", "triscale"} < entries.keys()
    labels = contract.replace(decision=Decision(link="sigmoid", thresholds=(0.1, 0.2, 0.3)))
    assert json.loads(plain_metadata(labels)["thresholds"]) == [0.1, 0.2, 0.3]
    assert plain_metadata(labels)["activation"] == "sigmoid"
    assert "temperature" not in plain_metadata(contract.replace(decision=Decision()))
    confidence = Confidence(temperature=2.0, coverage=0.9, set_threshold=0.25, kept=0.95, unknown_threshold=3.5)
    calibrated = contract.replace(decision=Decision().calibrated(confidence))
    found = plain_metadata(calibrated)
    expected = {"temperature": "2.0", "coverage": "0.9", "set_threshold": "0.25", "unknown_threshold": "3.5"}
    assert {key: found[key] for key in expected} == expected
    assert "divided by the temperature 2," in describe_use(calibrated)


def test_half_weights_are_those_of_numpy(files, tmp_path):
    """The same outputs as a file whose matrices were rounded by numpy, at half of the size."""
    proto, images = onnx.load(files / "float.onnx"), np.load(files / "images.npy")
    for stored in proto.graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype == np.float32 and values.ndim > 1:
            rounded = values.astype(np.float16).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(rounded, stored.name))
    onnx.save(proto, tmp_path / "rounded.onnx")
    paths = (files / "half.onnx", tmp_path / "rounded.onnx", files / "float.onnx")
    half, rounded, exact = (open_file(path, 1)(images) for path in paths)
    np.testing.assert_array_equal(half, rounded)
    assert 0 < np.abs(half - exact).max() < 1e-2 * np.abs(exact).max()
    assert paths[0].stat().st_size < 0.6 * paths[2].stat().st_size


def test_weights_beyond_half_precision_stay_in_float32():
    large = np.full((2, 2), 1e5, dtype=np.float32)
    initializers = [numpy_helper.from_array(large, "large"), numpy_helper.from_array(large / 100, "small")]
    graph = helper.make_graph([helper.make_node("MatMul", ["large", "small"], ["out"])], "one", [], [], initializers)
    found = {stored.name: stored.data_type for stored in with_half_weights(helper.make_model(graph)).graph.initializer}
    assert found == {"large": onnx.TensorProto.FLOAT, "small/float16": onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("size", ["16", "24x12"])
def test_example_of_the_page_agrees_with_predict(tmp_path, tiny_file, capsys, size):
    """It reads nothing but the metadata of the file; the photo is turned by its EXIF tag."""
    images = write_classes(tmp_path / "images", 12)
    run = ts.train(
        images, tiny_file, resolution=size, out=tmp_path / "run", epochs=1, batch_size=16, threads=1, workers=0,
        progress=False,
    )  # fmt: skip
    run.export(progress=False)
    photo, exif = tmp_path / "photo.png", Image.Exif()
    exif[0x0112] = 6
    picture = np.random.default_rng(0).integers(0, 256, (50, 37, 3), dtype=np.uint8)
    Image.fromarray(picture).save(photo, exif=exif)
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "onnxruntime" in block
    )
    code = code.replace("runs/photos/model.onnx", str(run.path / "model.onnx")).replace(
        "photos/red/000.png", str(photo)
    )
    capsys.readouterr()
    exec(compile(code, str(PAGE), "exec"), {})
    name, probability = capsys.readouterr().out.split()
    (answer,) = run.predict([photo])
    assert name == answer.classes[0].name in COLORS
    assert float(probability) == pytest.approx(answer.classes[0].probability, abs=1e-5)


def answers(files: Path, name: str) -> np.ndarray:
    return open_file(files / name, 1)(np.load(files / "images.npy"))


@pytest.mark.slow
def test_files_run_in_an_old_onnx_runtime_and_in_opencv(files, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    packages = ["onnxruntime==1.17.3", "opencv-python-headless==4.8.1.78", "numpy<2"]
    installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("the old versions cannot be installed here")
    code = """
import sys, cv2, numpy as np, onnxruntime
images = np.load(sys.argv[1])
for name in ("float.onnx", "int8.onnx"):
    file = sys.argv[2] + "/" + name
    np.save(file + ".ort.npy", onnxruntime.InferenceSession(file).run(None, {"images": images})[0])
    network = cv2.dnn.readNetFromONNX(file)
    rows = []
    for image in images:
        network.setInput(image[None])
        rows.append(network.forward()[0].copy())
    np.save(file + ".cv.npy", np.stack(rows))
"""
    subprocess.run([python, "-c", code, files / "images.npy", files], check=True)
    for name, tolerance in (("float.onnx", 1e-4), ("int8.onnx", 0.1)):
        exact = answers(files, name)
        for program in ("ort", "cv"):
            found = np.load(files / f"{name}.{program}.npy")
            assert np.abs(found - exact).max() <= tolerance * np.abs(exact).max(), (name, program)


@pytest.mark.slow
def test_files_run_in_a_browser_runtime(files, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web@1.17.3"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("onnxruntime-web cannot be installed here")
    images = np.load(files / "images.npy")
    images.tofile(tmp_path / "images.bin")
    (tmp_path / "run.cjs").write_text("""
const ort = require("onnxruntime-web"), fs = require("fs");
ort.env.wasm.numThreads = 1;
(async () => {
  const content = fs.readFileSync("images.bin");
  const values = new Float32Array(content.buffer, content.byteOffset, content.length / 4);
  const images = new ort.Tensor("float32", values, [2, 3, 32, 64]), found = [];
  for (const file of process.argv.slice(2)) {
    const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(file)));
    found.push(Array.from((await session.run({images})).logits.data));
  }
  console.log(JSON.stringify(found));
})();
""")
    names = ("float.onnx", "int8.onnx")
    done = subprocess.run(
        ["node", "run.cjs", *(str(files / name) for name in names)], cwd=tmp_path, capture_output=True, check=True
    )
    for name, row in zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True):
        exact = answers(files, name)
        assert np.abs(np.reshape(row, exact.shape) - exact).max() <= 0.1 * np.abs(exact).max()


def test_openvino_files_describe_themselves_to_its_own_programs(tmp_path):
    openvino = pytest.importorskip("openvino")
    export_openvino(exportable("mobilenet_v2@32"), tmp_path / "model.xml")
    section = openvino.Core().read_model(str(tmp_path / "model.xml")).rt_info["model_info"]
    found = {name: value if isinstance(value, str) else value.astype(str) for name, value in section.items()}
    assert found["labels"].split() == ["a", "b", "ü"]
    assert [float(value) for value in found["mean_values"].split()] == pytest.approx([123.675, 116.28, 103.53])
    assert [float(value) for value in found["scale_values"].split()] == pytest.approx([58.395, 57.12, 57.375])
    assert (found["model_type"], found["resize_type"]) == ("Classification", "crop")
