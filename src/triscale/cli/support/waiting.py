"""How compute threads wait for each other."""

from __future__ import annotations

import os
import sys

PASSIVE_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Environment variables of OpenMP, of GNU's library and of Intel's and LLVM's, that let waiting threads sleep."""


def wait_passively() -> None:
    """Let waiting threads of this process and of those it starts sleep, unless a user has set how they wait.

    Threads that spin while they wait keep the core from the thread that they wait for where other processes run too
    (``benchmarks/busy_neighbor.py``). The variables are read when torch is loaded, so this has no effect afterwards.
    """
    is_set = any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))
    if "torch" not in sys.modules and not is_set:
        os.environ.update(PASSIVE_WAITING)
