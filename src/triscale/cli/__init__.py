"""The command line: parse, call one job or function, print its record."""

from triscale.cli.app import main

__all__ = ["main"]
