"""Write a run as an int8 LiteRT file for TensorFlow Lite Micro, and compare its answers with the model's.

    python -m venv .venv-litert
    .venv-litert/bin/pip install litert-torch torchvision '.[litert]'
    .venv-litert/bin/python examples/int8_microcontroller.py RUN IMAGES FILE

IMAGES is a folder of images like those that the network will see; up to 100 of them calibrate the ranges of maps, and
as many others are compared. The file's input is one int8 image, channels first, and its outputs are int8 logits; both
have their scale and zero point in the file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import litert_torch
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import triscale as ts

CALIBRATION_IMAGES = 100
ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def main() -> None:
    """Write the file and print the comparison."""
    folder, images, out = map(Path, sys.argv[1:])
    run = ts.Run.open(folder)
    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in ENDINGS)
    shuffled = [files[number] for number in np.random.default_rng(0).permutation(len(files))[: 2 * CALIBRATION_IMAGES]]
    values = [run.transform()(Image.open(file))[None].numpy() for file in shuffled]
    half = len(values) // 2
    model = run.model().eval()
    out.write_bytes(compact(quantized(model, values[:half])))
    with torch.inference_mode():
        wanted = [int(model(torch.from_numpy(image)).argmax()) for image in values[half:]]
    found = [int(logits.argmax()) for logits in answers(out.read_bytes(), values[half:])]
    same = np.mean(np.equal(wanted, found))
    print(f"{out}: {out.stat().st_size:,} bytes; the class is the model's for {same:.1%} of {len(found)} images")


def quantized(model: nn.Module, images: Sequence[NDArray[np.float32]]) -> bytes:
    """Return the int8 file of a model.

    Args:
        model: The model.
        images: Normalized images ``[1, channels, height, width]`` to calibrate with.
    """
    program = litert_torch.convert(model.eval(), (torch.from_numpy(images[0]),))
    with tempfile.TemporaryDirectory() as folder:
        floating, integer = Path(folder) / "float.tflite", Path(folder) / "int8.tflite"
        program.export(str(floating))
        work = quantizer.Quantizer(str(floating))
        work.load_quantization_recipe(recipe.static_wi8_ai8())
        ranges = work.calibrate({"serving_default": [{"args_0": image} for image in images]})
        work.quantize(ranges).export_model(str(integer))
        return integer.read_bytes()


def compact(file: bytes) -> bytes:
    """Return a file whose weights are inside the FlatBuffer, and whose tensors have short names.

    The quantizer writes weights behind the FlatBuffer. TensorFlow Lite Micro does not look there: it would reserve
    memory for them in the arena. Names are no part of a computation, and take hundreds of bytes each.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that nothing is outside
            buffer.data = np.frombuffer(file[buffer.offset : buffer.offset + buffer.size], dtype=np.uint8)
            buffer.offset = buffer.size = 0
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = str(number)
    builder = flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def answers(file: bytes, images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int8]]:
    """Return the int8 logits of a file for normalized images."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = source["quantization"]
    logits = []
    for image in images:
        interpreter.set_tensor(source["index"], np.clip(np.round(image / scale) + zero, -128, 127).astype(np.int8))
        interpreter.invoke()
        logits.append(interpreter.get_tensor(result["index"])[0])
    return logits


if __name__ == "__main__":
    main()
