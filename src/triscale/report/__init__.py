"""Records in, pictures and one self-contained HTML page out.

The records of :mod:`triscale.report.run.run_content` say everything that a page can show, and
:func:`triscale.report.page.render` shows it. Nothing here measures or recomputes: a section whose record is
absent is left out.
"""
