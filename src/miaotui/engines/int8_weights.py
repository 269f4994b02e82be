"""int8 codes of a weight matrix, the same for every engine that is given them."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray


def quantize_weights(
    matrix: Float32[ndarray, "inputs outputs"], bits: int
) -> tuple[ndarray, Float32[ndarray, " outputs"]]:
    """Symmetric int8 codes with a scale per output channel; `bits` of 7 leaves room for processors
    whose 16-bit sums saturate (AVX2 without VNNI)."""
    most = 2 ** (bits - 1) - 1
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12).astype(np.float32) / most
    codes = np.clip(np.rint(matrix / scales), -most, most).astype(np.int8)
    return codes, scales
