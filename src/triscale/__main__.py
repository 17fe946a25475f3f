"""``python -m triscale`` is the command ``triscale``."""

from triscale.cli import main

main()
