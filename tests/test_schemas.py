"""The fields of each kind of record match its schema number, so that older files are rejected by version.

``python tests/test_schemas.py`` writes ``golden/schemas.json`` again, after a schema number was raised.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triscale
from triscale.record import Record, digest

GOLDEN = Path(__file__).parent / "golden" / "schemas.json"
RUNS_ON_IMPORT = ("triscale.__main__", "triscale.weights.child")


def kinds(cls: type[Record] = Record) -> Iterator[type[Record]]:
    for child in cls.__subclasses__():
        if child.kind_name and child.__module__.startswith("triscale."):
            yield child
        yield from kinds(child)


def fields_of(schema: object, definitions: dict[str, Any], within: tuple[str, ...] = ()) -> Any:
    """Names of fields and the values that they are limited to, nested; no types, bounds or defaults."""
    if isinstance(schema, list):
        return [result for each in schema if (result := fields_of(each, definitions, within))]
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "recursive" if name in within else fields_of(definitions[name], definitions, (*within, name))
    result = {name: fields_of(each, definitions, within) for name, each in schema.get("properties", {}).items()}
    for key in ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"):
        if inner := fields_of(schema.get(key), definitions, within):
            result[f"<{key}>"] = inner
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        result["<values>"] = sorted(map(str, values))
    return result or None


def schemas() -> dict[str, dict[str, int | str]]:
    for module in pkgutil.walk_packages(triscale.__path__, "triscale."):
        if module.name not in RUNS_ON_IMPORT:
            importlib.import_module(module.name)
    made = {}
    for cls in kinds():
        schema = cls.model_json_schema()
        fields = digest(fields_of(schema, schema.get("$defs", {})))[:16]
        made[cls.kind_name] = {"schema": cls.schema_number, "fields": fields}
    return dict(sorted(made.items()))


def test_fields_change_with_the_schema_number():
    known, now = json.loads(GOLDEN.read_text()), schemas()
    unraised = [
        kind
        for kind, entry in now.items()
        if kind in known and entry["schema"] == known[kind]["schema"] and entry != known[kind]
    ]
    assert not unraised, f"fields changed; raise schema_number of {', '.join(unraised)}"
    assert now == known, "schemas changed: python tests/test_schemas.py"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(schemas(), indent=1) + "\n")
