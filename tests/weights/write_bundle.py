"""Write the checkpoint of ``tests/weights/data`` with TensorFlow, and what TensorFlow reads back from it.

Made with TensorFlow 2.21.0: ``python tests/weights/write_bundle.py tests/weights/data``. The variables are those of a
tiny network (stem of 8, one block without expansion, one with, head of 16, 5 classes) under the names of the official
EfficientNet code, with moving averages, slots of its optimizer and a step counter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

LAYERS = {
    "stem/conv2d/kernel": (3, 3, 3, 8),
    "stem/tpu_batch_normalization": (8,),
    "blocks_0/depthwise_conv2d/depthwise_kernel": (3, 3, 8, 1),
    "blocks_0/tpu_batch_normalization": (8,),
    "blocks_0/se/conv2d/kernel": (1, 1, 8, 2),
    "blocks_0/se/conv2d/bias": (2,),
    "blocks_0/se/conv2d_1/kernel": (1, 1, 2, 8),
    "blocks_0/se/conv2d_1/bias": (8,),
    "blocks_0/conv2d/kernel": (1, 1, 8, 8),
    "blocks_0/tpu_batch_normalization_1": (8,),
    "blocks_1/conv2d/kernel": (1, 1, 8, 16),
    "blocks_1/tpu_batch_normalization": (16,),
    "blocks_1/depthwise_conv2d/depthwise_kernel": (5, 5, 16, 1),
    "blocks_1/tpu_batch_normalization_1": (16,),
    "blocks_1/se/conv2d/kernel": (1, 1, 16, 2),
    "blocks_1/se/conv2d/bias": (2,),
    "blocks_1/se/conv2d_1/kernel": (1, 1, 2, 16),
    "blocks_1/se/conv2d_1/bias": (16,),
    "blocks_1/conv2d_1/kernel": (1, 1, 16, 8),
    "blocks_1/tpu_batch_normalization_2": (8,),
    "head/conv2d/kernel": (1, 1, 8, 16),
    "head/tpu_batch_normalization": (16,),
    "head/dense/kernel": (16, 5),
    "head/dense/bias": (5,),
}
VALUES = ("gamma", "beta", "moving_mean", "moving_variance")


def main(folder: Path) -> None:
    """Write the checkpoint and the values."""
    random = np.random.default_rng(7)
    variables: dict[str, np.ndarray] = {}
    for layer, shape in LAYERS.items():
        for name in [f"{layer}/{value}" for value in VALUES] if "normalization" in layer else [layer]:
            values = random.normal(0, 0.2, shape).astype(np.float32)
            if name.endswith(("gamma", "moving_variance")):
                values = np.abs(values) + 0.5
            variables[f"efficientnet-b0/{name}"] = values
            variables[f"efficientnet-b0/{name}/ExponentialMovingAverage"] = values * np.float32(0.9)
    variables["efficientnet-b0/head/dense/bias/RMSProp"] = np.ones(5, np.float32)
    variables["efficientnet-b0/head/dense/bias/Momentum"] = np.zeros(5, np.float32)
    variables["global_step"] = np.array(218949, np.int64)
    prefix = str(folder / "model.ckpt")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(values) for values in variables.values()],
    )
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(name for name in reader.get_variable_to_shape_map() if name != "global_step")
    values = np.concatenate([reader.get_tensor(name).ravel() for name in names])
    np.savez_compressed(folder / "model.npz", names=np.array(names), values=values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
