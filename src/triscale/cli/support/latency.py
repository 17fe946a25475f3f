"""What is said of a network's time: asked, predicted, measured; no torch unless it is measured."""

from __future__ import annotations

from triscale.cli.support.execution import execution
from triscale.cli.support.terminal import console
from triscale.errors import UserError
from triscale.measure.processor import processor
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.record import Record


class Latency(Record):
    """The time that a network is predicted to take, and if it was measured the time that it took, in milliseconds.

    ``low_ms`` and ``high_ms`` are a 95% interval of the measured median, ``noise`` why it is unreliable.
    """

    forecast_ms: float
    measured_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    noise: str | None = None
    predictor: Predictor


def forecast_of(network: AnyNetwork, predictor: Predictor, *, verify: bool) -> Latency:
    """Predict a network's time, and measure it too if that is wanted.

    Raises:
        UserError: a custom model, which cannot be predicted; or to be measured on another processor.
    """
    if not isinstance(network, Network):
        raise UserError(f"{network.name} is a function, whose time cannot be predicted; leave --profile out")
    found = Latency(forecast_ms=predict(predictor, network), predictor=predictor)
    if not verify:
        return found
    if elsewhere(predictor):
        raise UserError(
            f"the profile was taken on {predictor.processor}, and this is {processor()}: "
            "what is measured here would tell nothing of it; leave --verify out"
        )
    from triscale.jobs.profile.measure import Subject, measure_one
    from triscale.nn.build import build

    with execution() as context:
        subject = Subject(network.name, network.resolution, model=lambda: build(network))
        engine = "torch" if predictor.engine == "torch" else "onnxruntime"
        (measured,) = measure_one(subject, (engine,), context, threads=predictor.threads)
    return found.replace(
        measured_ms=measured.median_ms, low_ms=measured.low_ms, high_ms=measured.high_ms, noise=measured.noise
    )


def elsewhere(predictor: Predictor) -> bool:
    """Whether a profile was taken on another processor than this."""
    return predictor.processor != processor()


def print_latency(latency: Latency) -> None:
    """Say what time was predicted and measured, and by what profile."""
    console.print(f"forecast {latency.forecast_ms:.3g} ms by {latency.predictor}", markup=False)
    if latency.measured_ms is not None:
        console.print(
            f"measured {latency.measured_ms:.3g} ms (95% interval {latency.low_ms:.3g} to {latency.high_ms:.3g} ms): "
            f"the forecast is off by {latency.forecast_ms / latency.measured_ms - 1:+.0%}",
            markup=False,
        )
        if latency.noise is not None:
            console.print(f"unreliable: {latency.noise}", style="bold red", markup=False)
    elif elsewhere(latency.predictor):
        console.print(f"note: the profile was taken on another device than this, {processor()}", markup=False)
