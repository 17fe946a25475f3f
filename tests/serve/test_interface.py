"""The HTTP API conforms to its OpenAPI schema for any request, checked by schemathesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from triscale.jobs.core.run import RunFolder
from triscale.serve.app import make_app
from triscale.serve.limits import DEFAULTS
from triscale.serve.model import ServedModel

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

PATHS = ("GET /api/health", "GET /api/model", "POST /api/predict", "GET /api/scale")


@pytest.fixture(scope="module")
def operations(served_run):
    app = make_app(ServedModel(RunFolder.open(served_run), DEFAULTS.pixels))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    found = [result.ok() for result in schema.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


@pytest.mark.parametrize("name", PATHS)
def test_responses_match_openapi_schema(operations, name):
    assert set(operations) == set(PATHS)

    @given(case=operations[name].as_strategy())
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def answered_as_described(case):
        # The schema cannot express which bytes are an image, or which text is a budget.
        case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

    answered_as_described()
