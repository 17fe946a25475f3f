"""The command ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.amounts import number_of
from triscale.cli.support.data_options import MaxPixels
from triscale.cli.support.execution import execution
from triscale.cli.support.options import Offline, SourceOrFileArgument
from triscale.cli.support.terminal import console
from triscale.errors import UserError
from triscale.network.latency import load_predictor

if TYPE_CHECKING:
    from triscale.serve.model import Servable


def serve(
    source: SourceOrFileArgument,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 1,
    profile: Path | None = None,
    max_pixels: MaxPixels = "50M",
    cors: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    offline: Offline = False,
) -> None:
    """Serve a network over HTTP: a web page to classify images, and an API described by OpenAPI.

    Parameters
    ----------
    host
        Address to listen on; by default only this machine can connect.
    port
        Port to listen on; 0 chooses a free port.
    threads
        Threads that the network computes with.
    profile
        A profile written by triscale profile, to scale networks to latency budgets.
    cors
        Origin whose web pages may call the server, such as https://example.com, or * for all; may be repeated.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UserError(
            "triscale serve requires a web server; install it with: pip install 'triscale[serve]'"
        ) from None
    from triscale.serve.app import make_app
    from triscale.serve.cors import check_origin
    from triscale.serve.run import listen, run_server
    from triscale.training.context import limit_threads

    origins = [check_origin(origin) for origin in cors]
    limit_threads(threads)
    model = _servable(source, number_of("--max-pixels", max_pixels), threads, profile, offline=offline)
    socket = listen(host, port)
    shown = f"http://{host}:{socket.getsockname()[1]}"
    console.print(
        f"{model.about.network}, {len(model.about.classes)} classes, at {shown}\n"
        f"API: {shown}/docs; classify an image: curl --data-binary @image.jpg {shown}/api/predict\n"
        "stop with Ctrl-C",
        markup=False,
        soft_wrap=True,
    )
    if host not in ("127.0.0.1", "localhost", "::1"):
        console.print("anyone who can reach this address can use the server; there is no password", style="bold")
    run_server(make_app(model, origins=origins), socket)


def _servable(source: str, pixels: int, threads: int, profile: Path | None, *, offline: bool) -> Servable:
    """Return the network of a run, weights or an exported file."""
    from triscale.jobs.run_source import is_exported, open_source
    from triscale.serve.model import ServedFile, ServedModel

    if is_exported(source):
        if profile is not None:
            raise UserError(
                f"--profile is for scaling, which the exported file {source} does not support; leave it out"
            )
        return ServedFile(Path(source), pixels, threads)
    predictor = None if profile is None else load_predictor(profile)
    with execution() as context, open_source(source, context, offline=offline) as opened:
        return ServedModel(opened.run, pixels, predictor)
