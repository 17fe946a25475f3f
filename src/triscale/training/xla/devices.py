"""The XLA devices of a training: their mesh, several hosts, and the cache of compiled functions."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import socket
import sys

import jax
import numpy as np
from jax.sharding import Mesh

from triscale.errors import JobError, RecipeError
from triscale.places import cache_folder
from triscale.training.distributed.group import Group
from triscale.training.distributed.micro_batches import micro_batches_of
from triscale.training.recipe import Recipe
from triscale.training.xla.xla_plan import AXIS

PLATFORMS = {"auto": None, "cpu": "cpu", "cuda": "cuda", "tpu": "tpu"}
"""The platform of JAX for each kind of device that a user can name; None for the best that there is."""


CPU_THREADS = 8
"""Threads of the computations on a CPU.

XLA takes as many as there are cores or simulated devices, and how it divides a convolution among them decides how it
rounds. With a fixed number, the result does not depend on the machine, nor on up to this many simulated devices.
"""


def start_xla(device: str, group: Group) -> None:
    """Choose the platform, keep compiled functions in the cache folder, and connect the hosts of a group.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``tpu``.
        group: The processes that train together, one for each host. All their devices form one mesh.

    Raises:
        RecipeError: This machine does not have the device.
        JobError: The hosts cannot be connected.
    """
    if device not in PLATFORMS:
        raise RecipeError(f'the XLA engine has no device "{device}"; the devices are {", ".join(PLATFORMS)}')
    # JAX starts threads. A fork of this process could wait forever for a lock that one of them holds.
    multiprocessing.set_start_method("spawn", force=True)
    os.environ.setdefault("NPROC", str(CPU_THREADS))  # read when JAX looks for its devices
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a step has many functions
    if PLATFORMS[device] is not None:
        jax.config.update("jax_platforms", PLATFORMS[device])
    if group.size > 1 and not jax.distributed.is_initialized():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        # It would take SIGTERM away from the training, which saves its state and exits.
        jax.config.update("jax_enable_preemption_service", False)
        address = group.share_text(_free_address() if group.is_writer else "")
        try:
            jax.distributed.initialize(address, group.size, group.rank)
        except RuntimeError as error:
            raise JobError(f"the {group.size} hosts of the training cannot be connected through JAX: {error}") from None
    try:
        jax.devices(PLATFORMS[device])
    except RuntimeError as error:
        raise RecipeError(
            f'there is no device "{device}" here that JAX can use ({error}); give --device cpu, or install JAX for '
            "that device"
        ) from None


def abandon_hosts() -> None:
    """End this process without waiting for the other hosts, once the interpreter exits: one of them was lost.

    JAX would wait for it for minutes, and then abort with a trace of its own.
    """
    atexit.register(_end)


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(JobError.exit_code)


def mesh_of(recipe: Recipe, devices: list[jax.Device] | None = None) -> Mesh:
    """Return the mesh over all devices of all hosts, in the order of the hosts.

    Args:
        recipe: Its micro-batches are distributed over the devices.
        devices: The devices to use; all by default.

    Raises:
        RecipeError: They cannot be distributed, or batch norm over the whole batch does not have one for each device.
    """
    used = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    micro_batches_of(0, len(used), recipe.micro_batches, what="devices")
    if recipe.norm_over == "batch" and 1 < recipe.micro_batches != len(used):
        raise RecipeError(
            f'norm_over "batch" needs one micro-batch for each device; there are {recipe.micro_batches} micro-batches '
            f"and {len(used)} devices: give --set micro_batches={len(used)}, or --set norm_over=micro_batch"
        )
    return Mesh(np.array(used), (AXIS,))


def describe_mesh(mesh: Mesh) -> str:
    """Return what a mesh consists of, such as ``8 TPU v5 lite devices on 2 hosts``."""
    devices = list(mesh.devices.flat)
    hosts = len({device.process_index for device in devices})
    kind = devices[0].device_kind
    text = f"{len(devices)} {kind} device{'s' if len(devices) > 1 else ''}"
    return text if hosts == 1 else f"{text} on {hosts} hosts"


def _free_address() -> str:
    """Return an address of this host, with a port that is free, on which the hosts meet."""
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{host}:{probe.getsockname()[1]}"
