"""Predict the latency of a network and print it; torch is imported only to measure it."""

from __future__ import annotations

from triscale.cli.support.execution import execution
from triscale.cli.support.terminal import console
from triscale.errors import UserError
from triscale.measurement.processor import processor
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.record import Record


class Latency(Record):
    """Predicted and measured latency of a network in milliseconds.

    Attributes:
        predicted_ms: The predicted latency.
        likely_low_ms: Lower end of the range in which 9 of 10 held-out networks were measured.
        likely_high_ms: Upper end of that range.
        measured_ms: The measured median; None if it was not measured.
        low_ms: Lower end of the 95% interval of the median.
        high_ms: Upper end of the interval.
        noise: Why the measurement is unreliable; None if it is reliable.
        predictor: The predictor.
    """

    predicted_ms: float
    likely_low_ms: float
    likely_high_ms: float | None
    measured_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    noise: str | None = None
    predictor: Predictor


def predict_latency(network: AnyNetwork, predictor: Predictor, *, verify: bool) -> Latency:
    """Predict the latency of a network, and with ``verify`` also measure it.

    Raises:
        UserError: The network is a custom model, or it is to be measured on another processor than the profile's.
    """
    if not isinstance(network, Network):
        raise UserError(
            f"latency prediction does not support custom models such as {network.name}; leave --profile out"
        )
    predicted = predict(predictor, network)
    low, high = predictor.measured_range(predicted)
    latency = Latency(predicted_ms=predicted, likely_low_ms=low, likely_high_ms=high, predictor=predictor)
    if not verify:
        return latency
    if is_other_device(predictor):
        raise UserError(
            f"the profile belongs to {predictor.processor}, but this processor is {processor()}, so a measurement on "
            "this machine cannot verify it; leave --verify out"
        )
    from triscale.jobs.profile.measure import Subject, measure_one
    from triscale.nn.build import build

    with execution() as context:
        subject = Subject(network.name, network.input_shape, model=lambda: build(network))
        engine = "torch" if predictor.engine == "torch" else "onnxruntime"
        (measured,) = measure_one(subject, (engine,), context, threads=predictor.threads)
    return latency.replace(
        measured_ms=measured.median_ms, low_ms=measured.low_ms, high_ms=measured.high_ms, noise=measured.noise
    )


def is_other_device(predictor: Predictor) -> bool:
    """Return whether a profile belongs to another processor than that of this machine."""
    return predictor.processor != processor()


def print_latency(latency: Latency) -> None:
    """Print the predicted and the measured latency."""
    verify = "" if latency.measured_ms is not None or is_other_device(latency.predictor) else "; --verify measures it"
    high = "any latency" if latency.likely_high_ms is None else f"{latency.likely_high_ms:.3g} ms"
    console.print(
        f"{latency.predicted_ms:.3g} ms predicted; measured within {latency.likely_low_ms:.3g} to {high} in 9 of 10 "
        f"cases{verify}",
        markup=False,
    )
    console.print(f"predictor: {latency.predictor}", markup=False, style="dim")
    if latency.measured_ms is not None:
        console.print(
            f"measured {latency.measured_ms:.3g} ms (95% interval {latency.low_ms:.3g} to {latency.high_ms:.3g} ms): "
            f"the prediction error is {latency.predicted_ms / latency.measured_ms - 1:+.0%}",
            markup=False,
        )
        if latency.noise is not None:
            console.print(f"unreliable: {latency.noise}", style="bold red", markup=False)
    elif is_other_device(latency.predictor):
        console.print(f"note: the profile belongs to another device than this one ({processor()})", markup=False)
