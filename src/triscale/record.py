"""Base of all frozen data: strict keys, JSON with a kind and a schema number, a stable digest, atomic files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from triscale.compat import sync_directory
from triscale.errors import RecordError, nearest

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(BaseModel)

KIND_KEY = "triscale"
SCHEMA_KEY = "schema"
LAST_VERSIONS = {1: "0.1"}
"""The last version that reads records of an older schema. A record whose fields never changed is still at schema 1."""


class _RecordType(_ModelMetaclass):
    """Makes ``Law(...)`` raise our error; pydantic, which builds nested records without this call, keeps its own."""

    def __call__(self: type[Any], *values: Any, **fields: Any) -> Any:
        named = self._positional(values) if values else {}
        if double := sorted(named.keys() & fields):
            raise RecordError(f"{self.__name__} got {double[0]} twice, by position and by name")
        try:
            return super().__call__(**named, **fields)
        except ValidationError as error:
            raise RecordError(f"this is not a valid {self.__name__}: {explain(error, self)}") from error


class Record(BaseModel, metaclass=_RecordType):
    """Immutable, validated data; an unknown key is an error.

    A record that is saved by itself names its ``kind`` and counts its ``schema``: both stand first in its JSON form,
    and a file of another kind or another schema is refused, with the version that reads it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    kind_name: ClassVar[str] = ""
    schema_number: ClassVar[int] = 1

    @classmethod
    def _positional(cls, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return the fields that values without a name stand for; most records have none."""
        raise RecordError(
            f"{cls.__name__}({values[0]!r}) does not say which field this is; give fields by name, such as "
            f"{next(iter(cls.model_fields))}=..."
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise RecordError(f"a {type(self).__name__} cannot be changed; make another: .replace({name}={value!r})")

    def to_json(self) -> str:
        """Return the record as indented JSON, with its kind and schema number first, ending in a newline."""
        head = {KIND_KEY: self.kind_name, SCHEMA_KEY: self.schema_number} if self.kind_name else {}
        return json.dumps(head | self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "the text given") -> Self:
        """Read a record back; ``source`` names the text in error messages.

        Raises:
            RecordError: not JSON, another kind of record, another schema, an unknown key or a wrong value.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{source} is not JSON ({error}); expected a {cls._title()}") from error
        if not isinstance(data, dict):
            raise RecordError(f"{source} holds a JSON {type(data).__name__}; expected a {cls._title()}, an object")
        if cls.kind_name:
            data = cls._open(data, source)
        return cls.parse(data, source)

    @classmethod
    def parse(cls, data: dict[str, Any], source: str) -> Self:
        """Validate plain data, with all mistakes in one readable message."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise RecordError(f"{source} is not a valid {cls._title()}: {explain(error, cls)}") from error

    def replace(self, **changes: object) -> Self:
        """Return a copy with some fields changed, validated again.

        Raises:
            RecordError: A field does not exist, or a value does not fit.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).parse(fields | changes, f"the changed {getattr(self, 'name', '') or self._title()}")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record from a file.

        Raises:
            RecordError: the file cannot be read or is not such a record.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}; expected a {cls._title()}") from error
        return cls.from_json(content, source=str(path))

    def save(self, path: Path) -> None:
        """Write the record so that the file is whole or absent, also after a power cut."""
        write_atomic(path, self.to_json().encode())

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form (sorted keys, no spaces), in hexadecimal."""
        return digest(self.model_dump(mode="json"))

    @classmethod
    def _title(cls) -> str:
        return f"{cls.kind_name or cls.__name__.lower()} record"

    @classmethod
    def _open(cls, data: dict[str, Any], source: str) -> dict[str, Any]:
        kind, schema = data.get(KIND_KEY), data.get(SCHEMA_KEY)
        if kind != cls.kind_name:
            given = f"a {kind} record" if isinstance(kind, str) else f'no record of Triscale (no "{KIND_KEY}" key)'
            raise RecordError(f"{source} is {given}; expected a {cls._title()}")
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise RecordError(f'{source} has no valid "{SCHEMA_KEY}" number; a {cls._title()} needs one')
        if schema > cls.schema_number:
            raise RecordError(
                f"{source} is a {cls._title()} of schema {schema}, and this version of Triscale reads up to schema "
                f"{cls.schema_number}; install a newer Triscale to read it"
            )
        if schema < cls.schema_number:
            version = LAST_VERSIONS.get(schema, LAST_VERSIONS[max(LAST_VERSIONS)])
            raise RecordError(
                f"{source} is a {cls._title()} of schema {schema}, and this version of Triscale reads schema "
                f"{cls.schema_number}; make it again, or read it with Triscale {version}: pip install "
                f"'triscale=={version}.*'"
            )
        return {key: value for key, value in data.items() if key not in (KIND_KEY, SCHEMA_KEY)}


def by_position(model: type[Record], values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the fields of values that are given in the order of a record's fields.

    Raises:
        RecordError: There are more values than fields.
    """
    names = list(model.model_fields)
    if len(values) > len(names):
        raise RecordError(f"{model.__name__} takes {len(names)} values ({', '.join(names)}), given {len(values)}")
    return dict(zip(names, values, strict=False))


class SparseRecord(Record):
    """A record that leaves some fields out of JSON at their defaults, so that digests from before they existed stay.

    It is a class of its own, since a serializer hides the fields of a record from the schema that a server publishes.

    Example:
        >>> class Shot(SparseRecord):
        ...     sparse = ("exposure",)
        ...     file: str
        ...     exposure: float = 1.0
        >>> Shot(file="a").model_dump(), Shot(file="a", exposure=2.0).model_dump()
        ({'file': 'a'}, {'file': 'a', 'exposure': 2.0})
    """

    sparse: ClassVar[tuple[str, ...]] = ()
    """The fields that are left out at their defaults."""

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, to_plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        usual = self._at_defaults()
        return {name: value for name, value in to_plain(self).items() if name not in usual}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Return the fields of the short form: those of JSON."""
        usual = self._at_defaults()
        return [(name, value) for name, value in super().__repr_args__() if name not in usual]

    def _at_defaults(self) -> set[str]:
        return {name for name in self.sparse if getattr(self, name) == type(self).model_fields[name].default}


def digest(data: object) -> str:
    """SHA-256 of plain data in canonical JSON form, in hexadecimal."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the mistakes that pydantic found as one line, with the keys that were probably meant."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            name = str(item["loc"][-1])
            known = _known_keys(model)
            hint = nearest(name, known) or (
                f"; the keys are {', '.join(model.model_fields)}" if len(item["loc"]) == 1 else ""
            )
            parts.append(f'unknown key "{place}"{hint}')
        elif item["type"] == "missing":
            parts.append(f'"{place}" is missing')
        elif item["type"] == "union_tag_invalid":
            context = item["ctx"]
            parts.append(f'"{place}": unknown {context["tag"]!r}, expected one of {context["expected_tags"]}')
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = item["input"]
            shown = f", given {given!r}" if isinstance(given, str | int | float | bool | None) else ""
            parts.append(f'"{place}": {message}{shown}' if place else message)
    return "; ".join(parts)


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return all keys of a model and of the models inside it, the model's own first."""
    found: dict[str, None] = dict.fromkeys(model.model_fields)
    schema = model.model_json_schema()
    for definition in schema.get("$defs", {}).values():
        found.update(dict.fromkeys(definition.get("properties", {})))
    return list(found)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a temporary file, flush it to the disk, rename it into place and flush the directory.

    A reader sees the old content or the new, never a part; after the call the new content survives a power cut.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written in parts, as :func:`write_atomic` writes one; an error leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that is renamed to ``path`` if the block ends without an error.

    A reader sees the whole directory or none. ``path`` must not exist, or be an empty directory.

    Args:
        path: The directory to create.

    Raises:
        OSError: The directory cannot be written, or ``path`` holds something; the temporary directory is removed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with atomic_directory(Path(parent) / "labels") as folder:
        ...         _ = (folder / "classes.txt").write_text("cat")
        ...     [file.name for file in Path(parent).rglob("*.txt")]
        ['classes.txt']
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it readable by its owner alone
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)
