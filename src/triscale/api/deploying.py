"""Deployment with arguments as Python users give them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from triscale.api.arguments import BudgetLike, as_budget, as_seconds
from triscale.deploy.engines import Precision
from triscale.jobs.core.execution import execution
from triscale.jobs.deploy.deploy import deploy_run
from triscale.jobs.run_source import RunSource
from triscale.jobs.source_jobs import deploy_source
from triscale.network.latency import load_predictor
from triscale.results.deployment import Deployment


class DeployOptions(NamedTuple):
    """The arguments of :meth:`triscale.Run.deploy`."""

    budget: BudgetLike | None
    profiles: str | Path | Sequence[str | Path]
    precisions: Sequence[Precision]
    threads: int
    time_limit: str | float | None


def deploy_opened(source: RunSource, options: DeployOptions, out: Path | None, *, progress: bool) -> Deployment:
    """Choose the fastest file for a device; see :meth:`triscale.Run.deploy`."""
    given = [options.profiles] if isinstance(options.profiles, str | Path) else list(options.profiles)
    made: Sequence[Precision] = ("float32",) if given else options.precisions
    with execution(progress=progress) as context:
        deploy = partial(
            deploy_run,
            context=context,
            predictors=[load_predictor(Path(profile)) for profile in given],
            budget=None if options.budget is None else as_budget(options.budget),
            precisions=options.precisions,
            threads=options.threads,
            time_limit=as_seconds("time_limit", options.time_limit),
        )
        return deploy_source(source, context, deploy, made, out)[0]
