"""Machine and software versions of a result."""

from __future__ import annotations

from triscale.record import Record


class Machine(Record):
    """A machine and its software.

    Attributes:
        processor: Name of the processor.
        cores: Cores that this process may use.
        memory_bytes: Memory of the machine.
        accelerator: Name of the GPU; None without one.
        system: Operating system and architecture.
        python: Version of Python.
        threads: Number of threads that torch computes with.
        packages: Names and versions of the packages that results depend on.
        kernels: What computes training steps: ``native`` or ``torch`` on the CPU, or ``xla``.
    """

    processor: str
    cores: int
    memory_bytes: int
    accelerator: str | None
    system: str
    python: str
    threads: int
    packages: tuple[tuple[str, str], ...]
    kernels: str = ""
