"""Read a file in COCO's format as a table of images with their classes (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triscale.data.sources.raw_table import RawTable, TableRow
from triscale.errors import DataError


def is_coco(content: object) -> bool:
    """Return whether the content of a JSON file has the lists of COCO's format.

    Example:
        >>> is_coco({"images": [], "annotations": []}), is_coco([])
        (True, False)
    """
    return isinstance(content, dict) and all(isinstance(content.get(name), list) for name in ("images", "annotations"))


def coco_table(file: Path, content: dict[str, Any]) -> RawTable:
    """Return the images that have annotations, each with the name of its category, or a list of their names.

    Args:
        file: The file, for messages.
        content: Its content.

    Raises:
        DataError: An entry lacks a field or refers to one that does not exist.
    """
    try:
        categories = {entry["id"]: str(entry.get("name", entry["id"])) for entry in content.get("categories", [])}
        images = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        found: dict[Any, dict[Any, None]] = {}
        for annotation in content["annotations"]:
            found.setdefault(annotation["image_id"], {})[annotation["category_id"]] = None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not in COCO's format ({type(error).__name__} {error}); expected images with id and file_name, "
            f"annotations with image_id and category_id, and categories with id and name"
        ) from error
    _check_references(file, set(images), set(categories), found)
    if not found:
        raise DataError(
            f"{file} has no annotations, so that no image has a class; expected one category for each image"
        )
    notes = [f"{file.name} is in COCO's format; the category of the annotations of an image is its class"]
    if without := len(images) - len(found):
        notes.append(f"{without} of {len(images)} images in {file.name} have no annotation and are left out")
    rows = tuple(
        TableRow(f"image {image}", (path, _text([categories.get(name, str(name)) for name in found[image]])))
        for image, path in images.items()
        if image in found
    )
    return RawTable(file, ("path", "label"), rows, notes=tuple(notes))


def _text(names: list[str]) -> str:
    return names[0] if len(names) == 1 else json.dumps(names, ensure_ascii=False)


def _check_references(file: Path, images: set[Any], categories: set[Any], found: dict[Any, dict[Any, None]]) -> None:
    """Check that annotations refer to images and categories of the file."""
    lost = next((image for image in found if image not in images), None)
    if lost is not None:
        raise DataError(f"an annotation in {file} has the image_id {lost}, but no image has this id; repair the file")
    unknown = next((name for names in found.values() for name in names if categories and name not in categories), None)
    if unknown is not None:
        raise DataError(
            f"an annotation in {file} has the category_id {unknown}, which no category has; repair the file"
        )
