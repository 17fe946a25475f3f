"""CRC-32C (Castagnoli) of large arrays in vectorized NumPy; TensorFlow checkpoints are protected by it.

::

    data:      | lane 0 | lane 1 | ... | lane 16383 | rest |
    step k:      byte k of every lane advances 16,384 registers at once
    joining:     register = advance(register, zeros(lane length)) ^ lane register
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with reversed bits
_LANES = 16384
_ALL = 0xFFFFFFFF


def _table() -> NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


_TABLE = _table()
_BYTE_STEPS = [int(value) for value in _TABLE]


def crc32c(data: NDArray[np.uint8]) -> int:
    """Return the CRC-32C of bytes.

    The register after some bytes is linear (over GF(2)) in the register before them and in the bytes. So the array is
    cut into lanes that are processed in parallel. Lanes are joined by advancing the register over a lane of zeros.

    Args:
        data: uint8 ``[N]``.

    Example:
        >>> hex(crc32c(np.frombuffer(b"123456789", np.uint8)))  # the check value of RFC 3720
        '0xe3069283'
    """
    register = _ALL
    length = len(data) // _LANES
    if length:
        lanes = np.ascontiguousarray(data[: length * _LANES].reshape(_LANES, length).T)
        registers = np.zeros(_LANES, dtype=np.uint32)
        for column in lanes:
            registers = _TABLE[(registers ^ column) & 0xFF] ^ (registers >> 8)
        tables = _zeros(length)
        for lane in registers.tolist():
            register = (
                tables[0][register & 0xFF]
                ^ tables[1][register >> 8 & 0xFF]
                ^ tables[2][register >> 16 & 0xFF]
                ^ tables[3][register >> 24]
                ^ lane
            )
    for byte in data[length * _LANES :].tolist():
        register = _BYTE_STEPS[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ _ALL


def unmask_crc(value: int) -> int:
    """Undo the masking of a stored CRC: LevelDB and TensorFlow rotate it by 15 bits and add a constant."""
    rotated = (value - 0xA282EAD8) & _ALL
    return (rotated >> 17 | rotated << 15) & _ALL


@lru_cache(maxsize=16)
def _zeros(number: int) -> list[list[int]]:
    """Return, for each byte of a register, its value after ``number`` zero bytes (square and multiply)."""
    one = [_BYTE_STEPS[1 << bit & 0xFF] ^ (1 << bit >> 8) for bit in range(32)]
    total = [1 << bit for bit in range(32)]
    while number:
        if number & 1:
            total = [_applied(one, value) for value in total]
        one = [_applied(one, value) for value in one]
        number >>= 1
    return [[_applied(total, value << 8 * byte) for value in range(256)] for byte in range(4)]


def _applied(columns: list[int], value: int) -> int:
    result = 0
    for bit in range(32):
        if value >> bit & 1:
            result ^= columns[bit]
    return result
