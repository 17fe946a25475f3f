"""The command ``measure``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Items, Json, joined
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.results.latency import Measurement, PairedTiming

PAPER_RATIO = 5.7
"""Table 4 of Tan & Le 2019: ResNet-152 takes 0.554 s and EfficientNet-B1 0.098 s on one core of a Xeon E5-2690."""
PUBLISHED = ("efficientnet_b1", "resnet152")


def measure(
    subject: str | None = None,
    /,
    *,
    compare: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    engines: Items = (),
    threads: int = 1,
    batch: int = 1,
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    published: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Measure latency on this machine; by default with batch size 1 on one core, as in Table 4 of the paper.

    Parameters
    ----------
    subject
        Folder of a run, an exported file, or a published name or JSON file of a network, or weights (with random
        weights, which does not affect latency).
    compare
        Other subjects to time alternately with it; ratios are printed with their intervals.
    engines
        Engines: torch, compiled (torch.compile), onnxruntime, openvino, executorch, litert; by
        default the engine of the file, or torch and onnxruntime.
    threads
        Threads of each engine, on as many cores.
    batch
        Batch size.
    precision
        float32, bfloat16 (torch, openvino) or int8 (onnxruntime, openvino, executorch); ignored for an exported file.
    published
        Compare EfficientNet-B1 with ResNet-152 as in Table 4 of the paper, and print the paper's ratio.
    """
    from triscale.jobs.core.run import RunFolder
    from triscale.jobs.profile.measure import choose_engines, find_subject, measure_one, measure_paired

    if threads < 1 or batch < 1:
        raise UserError(f"--threads {threads} --batch {batch}: give 1 or more of each")
    if published and (subject is not None or compare):
        raise UserError("--published measures the networks of the paper's table; do not give other networks with it")
    if published:
        subject, compare = PUBLISHED[0], PUBLISHED[1:]
    if subject is None:
        raise UserError("nothing to measure; give a run, an exported file or a network, or --published")
    chosen = choose_engines((joined(engines) or "").split(",") if engines else None, subject, alone=not compare)
    others = (joined(compare) or "").split(",") if compare else []
    subjects = [find_subject(text) for text in (subject, *others)]
    with execution() as context:
        if compare:
            versus = measure_paired(subjects, chosen, context, threads=threads, batch=batch, precision=precision)
        else:
            measurements = measure_one(subjects[0], chosen, context, threads=threads, batch=batch, precision=precision)
            if (Path(subject) / "run.json").is_file():
                from triscale.results.latency import RunLatencies

                opened = RunFolder.open(Path(subject))
                with opened.update():
                    RunLatencies(measurements=measurements).save(opened.latency_file)
    if compare:
        print_json(versus) if json else _print_versus(versus, published=published)
    else:
        print_json(measurements) if json else _print(measurements)


def _print(measurements: tuple[Measurement, ...]) -> None:
    table(
        ("engine", "precision", "median ms", "95% interval", "quartiles", "calls", "peak"),
        [
            (
                item.engine,
                item.precision,
                f"{item.median_ms:.3g}",
                "" if item.low_ms is None else f"{item.low_ms:.3g} - {item.high_ms:.3g}",
                f"{item.lower_quartile_ms:.3g} - {item.upper_quartile_ms:.3g}",
                str(item.samples),
                "" if item.peak_bytes is None else f"{si(item.peak_bytes)}B",
            )
            for item in measurements
        ],
        left=2,
    )
    first = measurements[0]
    cores = (
        f", pinned to core{'s' if len(first.cores) > 1 else ''} {', '.join(map(str, first.cores))}"
        if first.cores
        else ""
    )
    console.print(
        f"{first.batch} image{'s' if first.batch > 1 else ''} of {first.size} px, {first.threads} "
        f"thread{'s' if first.threads > 1 else ''}{cores}, on {first.machine.processor}. peak: increase of the "
        "process's memory",
        style="dim",
    )
    for item in measurements:
        if item.noise is not None:
            console.print(f"unreliable: {item.engine}: {item.noise}", style="bold red")


def _print_versus(versus: PairedTiming, *, published: bool) -> None:
    table(
        ("network", "engine", "precision", "px", "median ms", "ratio", "95% interval", "calls"),
        [
            (
                item.name,
                item.engine,
                item.precision,
                item.size,
                f"{item.median_ms:.3g}",
                f"x{item.ratio:.3g}",
                f"{item.low:.3g} - {item.high:.3g}",
                str(item.calls),
            )
            for item in versus.networks
        ],
    )
    console.print(
        f"{versus.rounds} rounds, timed alternately, batch {versus.batch}, threads {versus.threads}, on "
        f"{versus.machine.processor}; ratios are relative to the first row",
        style="dim",
    )
    if published:
        console.print(f"Table 4 of the paper: x{PAPER_RATIO} on one core of a Xeon E5-2690 (0.554 s and 0.098 s)")
