"""Several Runs as a page shows them: two that the same images judged, and one that others did."""

from report import report_samples as samples
from triscale.report.run.run_content import NamedValue
from triscale.report.runs.runs_content import RunRow, RunsContent, RunTable, SettingRow


def row(number: int, name: str, macs: int, top1: float, behind: float | None) -> RunRow:
    return RunRow(
        number=number, name=name, network=f"efficientnet_b0@32_phi{number - 5}", resolution=32, params=macs // 30,
        macs=macs, budget="8.00M MACs", top1=top1, top1_low=top1 - 0.02, top1_high=top1 + 0.02, behind=behind,
        behind_low=None if behind is None else behind - 0.01, behind_high=None if behind is None else behind + 0.01,
        latency_ms=None if number == 1 else 0.6 + number, latency_how="" if number == 1 else "ONNX Runtime, batch 1",
        noisy=number == 2, measure=f"triscale measure runs/{name}" if number == 1 else "",
    )  # fmt: skip


def two_sets() -> RunsContent:
    """Return three Runs on two sets of test images."""
    return RunsContent(
        title="3 Runs: photos, digits",
        verdict="3 Runs, judged by 2 different sets of test images: no one ranking of all.",
        created="2026-03-01 12:30 UTC",
        warnings=("These Runs were judged by 2 different sets of test images.",),
        runs=("wide", "deep", "digits"),
        tables=(
            RunTable(images="photos", count=1200, root="/data/photos",
                     rows=(row(0, "wide", 8_000_000, 0.81, None), row(1, "deep", 4_000_000, 0.79, 0.02))),
            RunTable(images="digits", count=360, rows=(row(2, "digits", 3_000_000, 0.97, None),)),
        ),
        families=samples.digits().families,
        settings=(SettingRow(name="epochs", values=("5", "30", "5")), SettingRow(name="seed", values=("0", "1", "0"))),
        files=tuple(NamedValue(name=name, value=f"/runs/{name}") for name in ("wide", "deep", "digits")),
    )  # fmt: skip


def hostile() -> RunsContent:
    """Return content in which every text is an attack on the page."""

    def spoil(value: object) -> object:
        if isinstance(value, str):
            return f"{samples.HOSTILE}{samples.HOSTILE_FILE}"
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in value.items()}
        return tuple(spoil(item) for item in value) if isinstance(value, tuple | list) else value

    return RunsContent.model_validate(spoil(two_sets().model_dump()))
