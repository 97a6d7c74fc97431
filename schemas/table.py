"""A table of fragments that records are made from: what an item adds to any record, taken millions of times.

Arrow's `take` costs 10 to 20 ns a fragment, whatever its size, and most fragments have one to four bytes. Those lie
here as cells of one width, which numpy takes at 2 ns; where they differ in size, the bytes that a cell does not use are
then left out, together 5 to 8 ns. Cost: 4 or 8 bytes of memory a fragment that differs in size from others; nothing
where all are alike, and for larger ones, which stay as they are.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import wire

Ints = npt.NDArray[np.int64]

_WIDTHS = (2, 4)


class Table:
    """Fragments by row."""

    def __init__(self, fragments: pa.LargeBinaryArray) -> None:
        self._fragments = fragments
        offsets, data = wire.buffers_of(fragments)
        sizes = np.diff(offsets)
        least, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
        self._cells: npt.NDArray[np.void] | None = None
        self._used: npt.NDArray[np.void] | None = None  # of each cell, which bytes are the fragment's
        if least == most > 0:
            self._cells = np.frombuffer(data, f"V{most}", len(sizes), int(offsets[0]))
        elif 0 < most <= max(_WIDTHS):
            width = min(width for width in _WIDTHS if width >= most)
            octets = np.frombuffer(data, np.uint8)
            cells, used = np.zeros((len(sizes), width), np.uint8), np.zeros((len(sizes), width), bool)
            for place in range(most):
                rows = np.flatnonzero(sizes > place)
                cells[rows, place], used[rows, place] = octets[offsets[rows] + place], True
            self._cells, self._used = (array.view(f"V{width}").reshape(-1) for array in (cells, used))

    def runs(self, rows: Ints, starts: Ints) -> pa.LargeBinaryArray:
        """The fragments of these rows, in this order, as one for each run: run i is rows[starts[i]:starts[i + 1]].

        starts: begins with 0 and ends with the number of rows.

        Raises:
          IndexError: a row that is not there.
        """
        if self._cells is None:
            return wire.regrouped(self._fragments.take(pa.array(rows)), starts)
        cells = self._cells.take(rows)
        if self._used is None:
            return wire.binary_array(cells, starts * cells.itemsize)
        used = self._used.take(rows).view(bool)
        sizes, some = np.zeros(len(starts), np.int64), np.flatnonzero(np.diff(starts))
        if len(some):  # reduceat knows no empty runs, and is several times faster the narrower its sums
            longest = int(np.diff(starts).max()) * cells.itemsize
            kind = np.uint16 if longest < 1 << 16 else np.int64
            sizes[1 + some] = np.add.reduceat(used.view(np.uint8), starts[some] * cells.itemsize, dtype=kind)
        return wire.binary_array(cells.view(np.uint8).compress(used), np.cumsum(sizes))
