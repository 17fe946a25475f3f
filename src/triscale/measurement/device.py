"""Describe the machine and the software versions of a measurement."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

from triscale.measurement.processor import processor
from triscale.nn.library import library
from triscale.results.machine import Machine
from triscale.version import __version__

PACKAGES = ("triscale", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow", "jax")


def machine(kernels: str | None = None) -> Machine:
    """Describe this machine, without user name, host name or paths.

    Args:
        kernels: What computes the steps of a training; by default, what torch has on this CPU.
    """
    return Machine(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        accelerator=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        threads=torch.get_num_threads(),
        packages=tuple((name, version) for name in PACKAGES if (version := _version_of(name))),
        kernels=kernels or ("native" if library() else "torch"),
    )


def _version_of(package: str) -> str | None:
    """Return the version of a package; None for one that is not installed, as where only some jobs are used."""
    own = {"triscale": __version__, "torch": str(torch.__version__)}
    if package in own:
        return own[package]
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
