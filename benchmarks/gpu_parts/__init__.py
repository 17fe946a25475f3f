"""The parts of the campaign on a GPU, ``benchmarks/gpu.py``, in the order of their value."""
