"""Engines that run exported files: what each writes, opens and needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from triscale.deploy.engines import coreml, executorch, litert, onnx_runtime, openvino
from triscale.deploy.engines.session import Session
from triscale.deploy.exportable import Exportable
from triscale.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        name: by which it is asked for.
        title: as it is shown.
        suffix: of its files.
        write: writes a model with its contract into a draft of a file, unchecked.
        open: opens a file with a number of threads, 0 for as many as the engine likes.
        needs: the module that must be installed.
    """

    name: str
    title: str
    suffix: str
    write: Callable[[Exportable, Path], None]
    open: Callable[[Path, int], Session]
    needs: str

    @property
    def installed(self) -> bool:
        """Whether its files can be written here."""
        return importlib.util.find_spec(self.needs) is not None


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("onnxruntime", "ONNX Runtime", ".onnx", onnx_runtime.write, onnx_runtime.OnnxSession, "onnxruntime"),
        Engine("openvino", "OpenVINO", ".xml", openvino.write, openvino.OpenVinoSession, "openvino"),
        Engine("executorch", "ExecuTorch", ".pte", executorch.write, executorch.ExecuTorchSession, "executorch"),
        Engine("coreml", "Core ML", ".mlpackage", coreml.write, coreml.CoreMlSession, "coremltools"),
        Engine("litert", "LiteRT", ".tflite", litert.write, litert.LiteRtSession, "litert_torch"),
    )
}


def get_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in ENGINES:
        raise UserError(f'there is no engine "{name}"{nearest(name, ENGINES)}; the engines are {", ".join(ENGINES)}')
    return ENGINES[name]


def engine_of(file: Path) -> Engine:
    """Return the engine that a file is meant for, by its name's ending.

    Raises:
        UserError: no engine has such files.
    """
    for engine in ENGINES.values():
        if file.suffix == engine.suffix:
            return engine
    known = ", ".join(f"{engine.suffix} ({engine.title})" for engine in ENGINES.values())
    raise UserError(f"{file} is for no engine that is known here, by its name's ending; these are: {known}")


def open_file(file: Path, threads: int = 0) -> Session:
    """Open an exported file in its engine.

    Raises:
        UserError: no engine has such files, or it is not installed.
        RecordError: the engine cannot read it.
    """
    return engine_of(file).open(file, threads)
