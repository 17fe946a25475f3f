"""Several runs as a report shows them: two on the same test images, and one on others."""

from report import report_samples as samples
from triscale.report.content import NamedValue
from triscale.report.runs.runs_content import RunsContent
from triscale.results.run_comparison import AccuracyGap, ComparedRun, ComparedRuns, Difference, TestSet


def compared_run(
    number: int, name: str, macs: int, top1: float, behind: float | None, test_set: int = 0
) -> ComparedRun:
    """Return a run; the second of three has no latency, and the latency of the third is noisy."""
    latency = samples.measurement("ONNX Runtime", 1, 1, (0.5 + number, 0.6 + number, 0.7 + number),
                                  noise="the quartiles lie far apart" if number == 2 else None)  # fmt: skip
    return ComparedRun(
        name=name, folder=f"runs/{name}", network=f"efficientnet_b0@32_phi{number - 5}", resolution=32,
        params=macs // 30, macs=macs, test_set=test_set, top1=top1, top1_low=top1 - 0.02, top1_high=top1 + 0.02,
        behind=None if behind is None else AccuracyGap(share=behind, low=behind - 0.01, high=behind + 0.01),
        budget="8.00M MACs", latency=None if number == 1 else latency,
    )  # fmt: skip


def two_sets() -> RunsContent:
    """Return three runs on two sets of test images."""
    return RunsContent(
        title="3 Runs: photos, digits",
        verdict="3 Runs, judged by 2 different sets of test images: no one ranking of all.",
        created="2026-03-01 12:30 UTC",
        warnings=("These Runs were judged by 2 different sets of test images.",),
        compared=ComparedRuns(
            test_sets=(TestSet(name="photos", root="/data/photos", count=1200),
                       TestSet(name="digits", root="", count=360)),
            runs=(compared_run(0, "wide", 8_000_000, 0.81, None), compared_run(1, "deep", 4_000_000, 0.79, 0.02),
                  compared_run(2, "digits", 3_000_000, 0.97, None, test_set=1)),
            differences=(Difference(setting="epochs", values=("5", "30", "5")),
                         Difference(setting="seed", values=("0", "1", "0"))),
        ),
        families=samples.digits().families,
        files=tuple(NamedValue(name=name, value=f"/runs/{name}") for name in ("wide", "deep", "digits")),
    )  # fmt: skip


def hostile() -> RunsContent:
    """Return content in which every text is an attack on the report."""
    return samples.spoiled(two_sets())
