"""Machine and software versions of a result."""

from __future__ import annotations

from triscale.record import Record


class Machine(Record):
    """A machine and its software; ``threads`` is torch's number of threads, ``kernels`` the CPU training kernels."""

    processor: str
    cores: int
    memory_bytes: int
    accelerator: str | None
    system: str
    python: str
    threads: int
    packages: tuple[tuple[str, str], ...]
    kernels: str = ""
