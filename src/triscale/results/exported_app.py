"""An example project that classifies photos with an exported model."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record


class ExportedApp(Record):
    """An example project: what it runs, and the files that it was written with.

    Attributes:
        app: Its name on the command line.
        engine: Title of the engine that runs the model.
        precision: Precision of the model.
        network: Name of the network.
        run_with: The command that runs it, in its folder.
        built_here: Whether this kind of project is built and run in the tests of Triscale; the others need the tools of
            their platform.
        files: SHA-256 of each file, by its path in the folder of the project.
    """

    kind_name: ClassVar[str] = "exported_app"

    app: str
    engine: str
    precision: str
    network: str
    run_with: str
    built_here: bool
    files: dict[str, str]
