"""Read a file in COCO's format as a table of images with one class each (https://cocodataset.org/#format-data)."""

from __future__ import annotations

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
    """Return the images that have annotations, each with the name of its only category.

    Args:
        file: The file, for messages.
        content: Its content.

    Raises:
        DataError: Images have several categories, or an entry lacks a field or refers to one that does not exist.
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
    several = {image: names for image, names in found.items() if len(names) > 1}
    if several:
        image, names = next(iter(several.items()))
        shown = ", ".join(categories.get(name, str(name)) for name in names)
        raise DataError(
            f"{len(several)} of {len(found)} annotated images in {file} have several categories ({images[image]}: "
            f"{shown}); an image with several labels (multi-label) is not supported: give each image one category"
        )
    if not found:
        raise DataError(
            f"{file} has no annotations, so that no image has a class; expected one category for each image"
        )
    notes = [f"{file.name} is in COCO's format; the category of the annotations of an image is its class"]
    if without := len(images) - len(found):
        notes.append(f"{without} of {len(images)} images in {file.name} have no annotation and are left out")
    rows = tuple(
        TableRow(f"image {image}", (path, categories.get(next(iter(found[image])), str(next(iter(found[image]))))))
        for image, path in images.items()
        if image in found
    )
    return RawTable(file, ("path", "label"), rows, notes=tuple(notes))


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
