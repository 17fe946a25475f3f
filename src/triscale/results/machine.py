"""The machine and the software versions that a result was obtained with."""

from __future__ import annotations

from triscale.record import Record


class Machine(Record):
    """A machine and the software on it; ``threads`` are those of torch, ``kernels`` what trains on a CPU."""

    processor: str
    cores: int
    memory_bytes: int
    accelerator: str | None
    system: str
    python: str
    threads: int
    packages: tuple[tuple[str, str], ...]
    kernels: str = ""
