"""Example projects for exported models: each classifies photos with one engine, without Triscale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from triscale.deploy.contract import Contract
from triscale.deploy.engines import coreml
from triscale.errors import ExportError, UserError, nearest

PHOTO_CHANNELS = (1, 3)
"""Channels that photos have: gray and RGB."""


def _whole(contract: Contract) -> Contract:
    return contract


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A kind of example project.

    Attributes:
        name: Name on the command line, and of its folder of templates.
        title: Display name.
        engine: Name of the engine that runs its model.
        model_folder: Folder of the model in the project.
        run_with: The command that runs it, in its folder.
        built_here: Whether the tests build and run it; the others need the tools of their platform.
        reduced: Returns what holds of a contract for files of its engine.
    """

    name: str
    title: str
    engine: str
    model_folder: str = "."
    run_with: str
    built_here: bool = True
    reduced: Callable[[Contract], Contract] = _whole


APPS: dict[str, App] = {
    app.name: app
    for app in (
        App(name="web", title="Web page", engine="onnxruntime", run_with="python3 -m http.server 8000"),
        App(name="python", title="Python program", engine="onnxruntime", run_with="python3 classify.py PHOTO"),
        App(
            name="cpp",
            title="C++ program",
            engine="openvino",
            run_with="cmake -B build && cmake --build build && build/classify PHOTO",
        ),
        App(
            name="android",
            title="Android app",
            engine="onnxruntime",
            model_folder="app/src/main/assets",
            run_with="gradle installDebug",
            built_here=False,
        ),
        App(
            name="ios",
            title="iOS app",
            engine="coreml",
            model_folder="Classifier",
            run_with="open Classifier.xcodeproj",
            built_here=False,
            reduced=coreml.packaged,
        ),
    )
}


def get_app(name: str) -> App:
    """Return a kind of example project by its name.

    Raises:
        UserError: There is none of that name.

    Example:
        >>> get_app("web").engine
        'onnxruntime'
    """
    if name not in APPS:
        raise UserError(f'there is no app "{name}"{nearest(name, APPS)}; the apps are {", ".join(APPS)}')
    return APPS[name]


def check_photos(contract: Contract) -> None:
    """Check that photos are what a model classifies: an example project decodes nothing else.

    Raises:
        ExportError: The model takes other channels, or values of another bit depth.
    """
    images = contract.preprocessing
    if images.channels not in PHOTO_CHANNELS:
        raise ExportError(
            f"apps read photos, gray or RGB, and {contract.network} takes {images.channels} channels; export the file "
            "without --app and feed it from your own program"
        )
    if images.bit_depth != 16:
        raise ExportError(
            f"apps read photos with 8 bits per channel, and {contract.network} was trained on {images.bit_depth} of 16 "
            "bits; export the file without --app and feed it from your own program"
        )
