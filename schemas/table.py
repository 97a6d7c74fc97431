"""A table of fragments that records are made from: what an item adds to any record, taken millions of times.

Arrow's `take` costs 10 to 20 ns a fragment, whatever its size, and most fragments have one to four bytes. Those lie
here as cells of one width, which numpy takes at 2 ns; where they differ in size, the bytes that a cell does not use are
then left out, together 6 to 10 ns. Cost: 3 or 5 bytes of memory a fragment that differs in size from others; nothing
where all are alike, and for larger ones, which stay as they are.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import wire

Ints = npt.NDArray[np.int64]


def _used(width: int) -> npt.NDArray[np.void]:
    """[width + 1] cells of so many bytes that are 1 as far as a fragment of each size reaches."""
    reached = np.arange(width) < np.arange(width + 1)[:, None]
    return reached.view(f"V{width}").reshape(-1)


_USED = {width: _used(width) for width in (2, 4)}


class Table:
    """Fragments by row."""

    def __init__(self, fragments: pa.LargeBinaryArray) -> None:
        self._fragments = fragments
        offsets, data = wire.buffers_of(fragments)
        sizes = np.diff(offsets)
        least, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
        self._sizes: npt.NDArray[np.uint8] | None = None
        self._cells: npt.NDArray[np.void] | None = None
        if least == most > 0:
            self._cells = np.frombuffer(data, f"V{most}", len(sizes), int(offsets[0]))
        elif 0 < most <= max(_USED):
            width = min(width for width in _USED if width >= most)
            octets = np.frombuffer(data, np.uint8)
            cells = np.zeros((len(sizes), width), np.uint8)
            for place in range(most):
                rows = np.flatnonzero(sizes > place)
                cells[rows, place] = octets[offsets[rows] + place]
            self._cells, self._sizes = cells.view(f"V{width}").reshape(-1), sizes.astype(np.uint8)

    def take(self, rows: Ints) -> pa.LargeBinaryArray:
        """The fragments of these rows, in this order.

        Raises:
          IndexError: a row that is not there.
        """
        if self._cells is None:
            return self._fragments.take(pa.array(rows))
        cells = self._cells.take(rows)
        if self._sizes is None:
            return wire.binary_array(cells, np.arange(0, cells.nbytes + 1, cells.itemsize))
        sizes = self._sizes.take(rows)
        used = np.flatnonzero(_USED[cells.itemsize].take(sizes).view(bool))
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        return wire.binary_array(cells.view(np.uint8).take(used), offsets)
