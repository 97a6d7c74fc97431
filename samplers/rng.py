"""Counter-based random numbers: a pure function of (seed, epoch, click key, slot, attempt).

No state, so a draw never depends on the partition, task or attempt that made it. Keys are chained through the
SplitMix64 finalizer (Steele, Lea & Flood 2014, with Stafford's variant 13); a key and a counter then give one output of
the SplitMix64 sequence that starts at the key, which passes BigCrush. About 4 ns a number in numpy.
"""

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(values: npt.ArrayLike) -> Keys:
    """The SplitMix64 finalizer, a bijection of 64-bit numbers."""
    z = np.array(values, np.uint64, ndmin=1)
    z ^= z >> np.uint64(30)
    z *= _FIRST
    z ^= z >> np.uint64(27)
    z *= _SECOND
    z ^= z >> np.uint64(31)
    return z


def keyed(*parts: npt.ArrayLike) -> Keys:
    """One key a row from several parts, broadcast against each other; their order matters, so (1, 2) is not (2, 1)."""
    key = np.zeros(1, np.uint64)
    for part in parts:
        numbers = np.atleast_1d(np.asarray(part))
        if numbers.dtype != np.uint64:
            numbers = numbers.astype(np.int64).view(np.uint64)
        key = mixed((key + _GOLDEN) ^ mixed(numbers + _GOLDEN))
    return key


def numbers(keys: Keys, counters: npt.ArrayLike) -> Keys:
    """64 random bits for each key and counter, broadcast against each other."""
    steps = np.atleast_1d(counters).astype(np.uint64) + np.uint64(1)  # numpy warns of scalars that wrap around
    return mixed(keys + steps * _GOLDEN)


def positions(keys: Keys, counters: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Uniform whole numbers in [0, 2^53)."""
    return (numbers(keys, counters) >> np.uint64(11)).view(np.int64)


def uniforms(keys: Keys, counters: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 bits."""
    return (numbers(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
