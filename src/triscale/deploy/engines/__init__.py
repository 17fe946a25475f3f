"""Inference engines: what each one writes, opens and requires."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.contract import Contract
from triscale.deploy.engines import coreml, executorch, litert, onnx_runtime, openvino
from triscale.deploy.engines.session import Session
from triscale.deploy.exportable import Exportable
from triscale.errors import UserError, nearest

Precision = Literal["float32", "float16", "bfloat16", "int8"]
Opener = Callable[[Path, int], Session]
Writer = Callable[[Exportable, Path], None]


def _everywhere() -> bool:
    return True


def _unchanged(array: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:  # noqa: ARG001 - the contract
    return array


@dataclass(frozen=True, slots=True)
class Rounding:
    """A precision lower than float32 to which weights or operations are rounded, without calibration.

    Attributes:
        write: Writes a model to a file that Triscale opens in this precision.
        obstacle: Returns why this machine cannot compute in it; empty if it can.
        open_with: How a program opens the file in this precision; empty if the file alone says it.
    """

    write: Writer
    obstacle: Callable[[], str] = str
    open_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The capabilities of an engine; code uses these instead of comparing names.

    Attributes:
        name: Name on the command line.
        title: Display name.
        suffix: Suffix of its files.
        is_folder: Whether its files are directories.
        also_reads: Suffixes of other files that it opens.
        write: Writes a model with its contract to a file, without a parity check.
        openers: Functions that open a file with a number of threads (0: the engine's default), by compute precision.
            An int8 file is opened like a float32 one.
        roundings: Lower precisions of its openers, and how their files are written.
        makes_int8: Whether Triscale can quantize for it.
        is_slow: Whether writing its files takes long: a minute, where others take seconds.
        converter: The module that must be installed to write its files.
        install: The command that installs it.
        runs_here: Whether this system can run its files.
        inputs: Returns the normalized inputs ``[N, C, H, W]`` nearest to given ones that its files can take.
        outputs: Returns what its files give for logits ``[N, classes]`` of the model.
    """

    name: str
    title: str
    suffix: str
    is_folder: bool = False
    also_reads: tuple[str, ...] = ()
    write: Writer
    openers: Mapping[Precision, Opener]
    roundings: Mapping[Precision, Rounding] = field(default_factory=dict)
    makes_int8: bool = False
    is_slow: bool = False
    converter: str
    install: str
    runs_here: Callable[[], bool] = _everywhere
    inputs: Callable[[NDArray[np.float32], Contract], NDArray[np.float32]] = _unchanged
    outputs: Callable[[NDArray[np.float32], Contract], NDArray[np.float32]] = _unchanged

    @property
    def installed(self) -> bool:
        """Whether its files can be written on this machine."""
        return importlib.util.find_spec(self.converter) is not None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions of its files, the widest first."""
        return (*self.openers, "int8") if self.makes_int8 else tuple(self.openers)

    def obstacle(self, precision: Precision) -> str:
        """Return why this machine cannot run the engine's files of a precision; empty if it can."""
        if not self.runs_here():
            return f"{self.title} does not run on this machine"
        rounding = self.roundings.get(precision)
        return "" if rounding is None else rounding.obstacle()

    def open_with(self, precision: Precision) -> str:
        """Return how a program opens a file of a precision; empty if the file alone says it."""
        rounding = self.roundings.get(precision)
        return "" if rounding is None else rounding.open_with

    def check_makes(self, precision: Precision) -> None:
        """Check that it has files of a precision.

        Raises:
            UserError: It has none; the message names engines that do.
        """
        if precision not in self.precisions:
            able = [engine.name for engine in ENGINES.values() if precision in engine.precisions]
            doing = "quantize" if precision == "int8" else f"export {precision}"
            raise UserError(
                f"Triscale cannot {doing} for {self.title}; the engines with {precision} are {', '.join(able)}"
            )

    def reads(self, file: Path) -> bool:
        """Return whether it opens files with this suffix."""
        return file.suffix == self.suffix or file.suffix in self.also_reads

    def open(self, file: Path, threads: int = 0, precision: Precision = "float32") -> Session:
        """Open a file.

        Args:
            file: A file that the engine reads.
            threads: Threads to compute with; 0 leaves it to the engine.
            precision: What float operations are computed in; ``int8`` for an int8 file.

        Raises:
            UserError: The engine is not installed, or does not compute in the precision, or not on this machine.
            RecordError: The engine cannot read the file.
        """
        opener = self.openers.get("float32" if precision == "int8" and self.makes_int8 else precision)
        if opener is None:
            able = [engine.name for engine in ENGINES.values() if precision in engine.precisions]
            raise UserError(
                f"{self.title} computes in {' or '.join(self.precisions)}; {precision} is for {', '.join(able)}"
            )
        # An engine may compute in float32 without a word where it cannot round, which would be measured as if it had.
        if precision in self.roundings and (obstacle := self.obstacle(precision)):
            raise UserError(f"{self.title} cannot compute in {precision}: {obstacle}; use float32 or int8")
        return opener(file, threads)


PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8")
"""All precisions, the widest first."""
DEPLOYED: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
"""The precisions that are deployed by default: float16 makes files half as large, but not faster."""


def file_name(engine: Engine, precision: Precision) -> str:
    """Return the default name of a file for an engine in a precision.

    Example:
        >>> file_name(DEFAULT_ENGINE, "float32"), file_name(DEFAULT_ENGINE, "int8")
        ('model.onnx', 'model.int8.onnx')
    """
    return f"model{'' if precision == 'float32' else f'.{precision}'}{engine.suffix}"


def precision_of(file: Path) -> Precision:
    """Return the precision of a file, judged by its name.

    Example:
        >>> precision_of(Path("model.int8.onnx")), precision_of(Path("model.onnx"))
        ('int8', 'float32')
    """
    return next((one for one in PRECISIONS if f".{one}." in file.name), "float32")


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            name="onnxruntime",
            title="ONNX Runtime",
            suffix=".onnx",
            write=onnx_runtime.write,
            openers={"float32": onnx_runtime.OnnxSession, "float16": onnx_runtime.OnnxSession},
            roundings={"float16": Rounding(partial(onnx_runtime.write, half=True))},
            makes_int8=True,
            converter="onnxruntime",
            install="pip install onnxruntime",
        ),
        Engine(
            name="openvino",
            title="OpenVINO",
            suffix=".xml",
            also_reads=(".onnx",),
            write=openvino.write,
            openers={
                "float32": openvino.OpenVinoSession,
                "float16": openvino.OpenVinoSession,
                "bfloat16": partial(openvino.OpenVinoSession, precision=openvino.BFLOAT16),
            },
            roundings={
                "float16": Rounding(partial(openvino.write, precision=openvino.FLOAT16)),
                "bfloat16": Rounding(
                    write=partial(openvino.write, precision=openvino.BFLOAT16),
                    obstacle=openvino.bfloat16_obstacle,
                    open_with='core.compile_model("FILE", "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})',
                ),
            },
            makes_int8=True,
            converter="openvino",
            install="pip install 'triscale[openvino]'",
        ),
        Engine(
            name="executorch",
            title="ExecuTorch",
            suffix=".pte",
            write=executorch.write,
            openers={"float32": executorch.ExecuTorchSession},
            makes_int8=True,
            is_slow=True,
            converter="executorch",
            install="pip install 'triscale[executorch]'",
        ),
        Engine(
            name="coreml",
            title="Core ML",
            suffix=".mlpackage",
            is_folder=True,
            write=coreml.write,
            openers={"float32": coreml.CoreMlSession, "float16": coreml.CoreMlSession},
            roundings={"float16": Rounding(partial(coreml.write, half=True))},
            converter="coremltools",
            install="pip install 'triscale[coreml]'",
            runs_here=coreml.runs_here,
            inputs=coreml.in_eight_bits,
            outputs=coreml.comparable,
        ),
        Engine(
            name="litert",
            title="LiteRT",
            suffix=".tflite",
            write=litert.write,
            openers={"float32": litert.LiteRtSession, "float16": litert.LiteRtSession},
            roundings={"float16": Rounding(partial(litert.write, half=True))},
            makes_int8=True,
            converter="litert_torch",
            install="bash examples/litert.sh",
        ),
    )
}
DEFAULT_ENGINE = ENGINES["onnxruntime"]
"""The default engine of exports."""


def get_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        UserError: There is no engine of that name.

    Example:
        >>> get_engine("onnxruntime").suffix
        '.onnx'
    """
    if name not in ENGINES:
        raise UserError(f'there is no engine "{name}"{nearest(name, ENGINES)}; the engines are {", ".join(ENGINES)}')
    return ENGINES[name]


def title_of(name: str) -> str:
    """Return the title of an engine, or the name itself if it runs no exported files, such as torch.

    Example:
        >>> title_of("onnxruntime"), title_of("torch")
        ('ONNX Runtime', 'torch')
    """
    return ENGINES[name].title if name in ENGINES else name


def engine_of(file: Path) -> Engine:
    """Return the engine of a file by its suffix.

    Raises:
        UserError: No engine has files with this suffix.
    """
    for engine in ENGINES.values():
        if file.suffix == engine.suffix:
            return engine
    suffixes = ", ".join(f"{engine.suffix} ({engine.title})" for engine in ENGINES.values())
    raise UserError(f"{file} has a suffix of no engine; the suffixes are {suffixes}")


def open_file(file: Path, threads: int = 0) -> Session:
    """Open an exported file in its engine.

    Raises:
        UserError: No engine has files with this suffix, or it is not installed.
        RecordError: The engine cannot read it.
    """
    return engine_of(file).open(file, threads)
