"""The content of a model card: what the report of the run shows, and what a stranger needs beyond it."""

from __future__ import annotations

from triscale.network.contract import Link, Preprocessing, WeightsOrigin
from triscale.record import Record
from triscale.report.run.run_content import RunContent


class CardContent(Record):
    """Everything that a model card says.

    Attributes:
        run: The content of the run's report, without pictures.
        name: Name of the network.
        family: Name of the network that it is, or was scaled from.
        version: Version of Triscale that made the run.
        classes: Names of the classes.
        link: How logits become probabilities.
        preprocessing: How an image becomes network input.
        trains: Whether the network was trained; otherwise the run holds weights as they are.
        recipe: Name of the recipe.
        source: Where the values of the recipe come from.
        start: What the weights were at the start, as a sentence.
        origins: The published or imported weights that the network learned from.
        license: SPDX identifier of the license of the network, as its author states it; None if nobody has.
        seconds: Time of all epochs; None without a training.
        watts: Power of the machine, as its user states it; None if nobody has.
        recalls: The 95% interval of the recall of each class of the metrics.
        weights_sha256: SHA-256 of the weights file.
        has_sbom: Whether the run has a bill of materials.
    """

    run: RunContent
    name: str
    family: str
    version: str
    classes: tuple[str, ...]
    link: Link
    preprocessing: Preprocessing
    trains: bool = True
    recipe: str = ""
    source: str = ""
    start: str = ""
    origins: tuple[WeightsOrigin, ...] = ()
    license: str | None = None
    seconds: float | None = None
    watts: float | None = None
    recalls: tuple[tuple[float, float], ...] = ()
    weights_sha256: str = ""
    has_sbom: bool = False
