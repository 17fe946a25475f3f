"""A training with the XLA engine in a process of its own, for tests that kill it or limit its memory.

``process.py kills FOLDER`` prints a line when the steps begin and after each epoch. ``process.py memory FOLDER
MEGABYTES`` trains twice, the second time with so much more memory than the process has then, and prints the notes of
the second training as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from progress import RecordedNotes
from seeded_training import feed, task
from triscale.errors import JobError
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.engine import start_engine
from triscale.training.loop import seed_weights, train
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints

EPOCHS, STEPS, BATCH = 8, 8, 16
RECIPE = Recipe(epochs=EPOCHS, batch=BATCH, micro_batches=4, warmup_epochs=1)
BLOCK = MBConv(expansion=6, kernel=3, se_ratio=0.25)
SIDE, MANY = 64, 64


def network(stages: int, width: int, resolution: int) -> Network:
    return Network(
        name="small",
        stem=Stem(width=width),
        stages=(Stage(block=BLOCK, width=width, repeats=1, stride=1),) * stages,
        head=Head(width=16),
        resolution=resolution,
        classes=3,
        dropout=0.1,
        drop_path=0.2,
        norm=BatchNorm(momentum=0.1),
    )


def train_and_print(folder: Path) -> None:
    """Train a network that takes a second for all its epochs."""
    seed_weights(1)
    given = task(build(network(2, 8, 16)), RECIPE)
    source = feed(batch=BATCH, steps=STEPS)

    def on_epoch(history) -> None:
        sys.stdout.write(f"{len(history)}\n")
        sys.stdout.flush()

    sys.stdout.write("begins\n")
    sys.stdout.flush()
    train(given, source, Checkpoints(folder), ExecutionContext(engine="xla"), on_epoch=on_epoch)


def train_within(folder: Path, room_bytes: int) -> list[str]:
    """Train a network whose maps take far more memory than the compiler, first without a limit."""
    recorded = RecordedNotes()
    for name, limited in (("plenty", False), ("little", True)):
        seed_weights(1)
        recorded.notes.clear()
        given = task(build(network(8, 16, SIDE)), Recipe(epochs=1, batch=MANY, warmup_epochs=0))
        if limited:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + room_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            context = ExecutionContext(progress=recorded, engine="xla")
            train(given, feed(batch=MANY, steps=2, side=SIDE), Checkpoints(folder / name), context)
        except JobError as error:
            recorded.notes.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return recorded.notes


if __name__ == "__main__":
    start_engine("xla", "cpu", ALONE)
    if sys.argv[1] == "kills":
        train_and_print(Path(sys.argv[2]))
    else:
        sys.stdout.write(json.dumps(train_within(Path(sys.argv[2]), int(sys.argv[3]) << 20)))
