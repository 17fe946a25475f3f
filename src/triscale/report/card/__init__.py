"""The model card of a run, as Markdown with a header of metadata."""
