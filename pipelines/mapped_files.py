"""Tables that the driver shares with executors: Arrow files, memory-mapped, shared by the workers of a machine."""

from pathlib import Path

import pyarrow as pa


def store(path: Path, table: pa.Table) -> None:
    """Writes a table as one uncompressed Arrow file."""
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def mapped(path: str) -> pa.Table:
    """The stored table; a worker pays for the pages it touches, once a machine."""
    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).read_all()
