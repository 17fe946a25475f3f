"""Run the shell scripts of examples/ with the environment of the tests."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_script(name: str, *arguments: object, timeout: float) -> subprocess.CompletedProcess[str]:
    """Return the ended process of a script, with its outputs as text."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(EXAMPLES / name), *map(str, arguments)],
        env=os.environ | {"PATH": paths},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
