"""Reports: one self-contained HTML file from the records of results.

A ``*_content`` module holds the result records that a kind of report shows, a ``*_view`` module derives order and
sentences from them, ``*_figures`` modules draw, and :mod:`triscale.report.render` fills the templates. Nothing is
measured here; a section whose record is absent is left out.
"""
