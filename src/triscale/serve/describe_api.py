"""Turn the OpenAPI description into the rows of the page ``/docs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_REFERENCE = "#/components/schemas/"
_NAMES = {"object": "object", "array": "list", "null": "null", "boolean": "true or false"}


class Piece(NamedTuple):
    """A piece of the text of a type; a record is shown as a link."""

    text: str
    record: bool = False


class Row(NamedTuple):
    """A row of a table: a parameter, a content type, a status or a field."""

    name: str
    type: tuple[Piece, ...]
    text: str = ""
    required: bool = False


class Operation(NamedTuple):
    """A method of a path."""

    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Row, ...]
    body_text: str
    bodies: tuple[Row, ...]
    responses: tuple[Row, ...]
    examples: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """The identifier of the operation in the page."""
        return f"{self.method}{self.path}".lower().replace("/", "-")


class RecordTable(NamedTuple):
    """The fields of a record."""

    name: str
    description: str
    fields: tuple[Row, ...]


def operations_of(api: Mapping[str, Any], examples: Mapping[str, Sequence[str]]) -> tuple[Operation, ...]:
    """Return the operations of an OpenAPI description.

    Args:
        api: The description.
        examples: Commands by path.
    """
    return tuple(
        Operation(
            method=method.upper(),
            path=path,
            summary=operation.get("summary", ""),
            description=_paragraphs(operation.get("description", "")),
            parameters=tuple(_parameter(parameter) for parameter in operation.get("parameters", ())),
            body_text=operation.get("requestBody", {}).get("description", ""),
            bodies=tuple(_contents(operation.get("requestBody", {}))),
            responses=tuple(
                Row(status, _first_type(response), response["description"])
                for status, response in sorted(operation["responses"].items())
            ),
            examples=tuple(examples.get(path, ())),
        )
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    )


def records_of(api: Mapping[str, Any]) -> tuple[RecordTable, ...]:
    """Return the records of an OpenAPI description."""
    return tuple(
        RecordTable(
            name=name,
            description=_paragraphs(schema.get("description", "")),
            fields=tuple(Row(key, type_of(field)) for key, field in schema.get("properties", {}).items()),
        )
        for name, schema in api.get("components", {}).get("schemas", {}).items()
    )


def type_of(schema: Mapping[str, Any]) -> tuple[Piece, ...]:
    """Return the text of a JSON schema's type.

    Example:
        >>> schema = {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}
        >>> "".join(piece.text for piece in type_of(schema))
        'list of Answer'
    """
    if reference := schema.get("$ref"):
        return (Piece(str(reference).removeprefix(_REFERENCE), record=True),)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return _joined((type_of(one) for one in alternatives), " or ")
    match schema:
        case {"type": "array", "prefixItems": items}:
            return (Piece("["), *_joined(map(type_of, items), ", "), Piece("]"))
        case {"type": "array", "items": items}:
            return (Piece(f"list{_count(schema)} of "), *type_of(items))
        case {"type": "object", "properties": fields}:
            shown = ((Piece(f'"{key}": '), *type_of(field)) for key, field in fields.items())
            return (Piece("{"), *_joined(shown, ", "), Piece("}"))
        case {"type": "object", "additionalProperties": dict(values)}:
            return (Piece("object of "), *type_of(values))
        case {"format": "binary"}:
            return (Piece("image file"),)
        case {"contentEncoding": "base64"}:
            return (Piece("base64 text"),)
        case _:
            kind = str(schema.get("type", "any value"))
            return (Piece(_NAMES.get(kind, kind) + _bounds(schema)),)


def _parameter(parameter: Mapping[str, Any]) -> Row:
    schema = parameter["schema"]
    text = str(parameter.get("description", ""))
    text = text[:1].upper() + text[1:]
    if "default" in schema:
        default = schema["default"]
        text += f"; default {str(default).lower() if isinstance(default, bool) else default}"
    return Row(parameter["name"], type_of(schema), text, bool(parameter.get("required")))


def _contents(holder: Mapping[str, Any]) -> Iterable[Row]:
    for kind, content in holder.get("content", {}).items():
        yield Row(kind, type_of(content["schema"]))


def _first_type(response: Mapping[str, Any]) -> tuple[Piece, ...]:
    return next((row.type for row in _contents(response)), ())


def _joined(parts: Iterable[tuple[Piece, ...]], separator: str) -> tuple[Piece, ...]:
    joined: list[Piece] = []
    for part in parts:
        joined += [Piece(separator)] * bool(joined) + list(part)
    return tuple(joined)


def _count(schema: Mapping[str, Any]) -> str:
    match schema.get("minItems"), schema.get("maxItems"):
        case None, None:
            return ""
        case low, None:
            return f" ({low} or more)"
        case low, high:
            return f" ({low or 0} to {high})"


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    return f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""


def _paragraphs(text: str) -> str:
    """Return a docstring's text without its line breaks inside paragraphs and without markup."""
    return "\n".join(" ".join(one.split()) for one in text.replace("`", "").split("\n\n"))
