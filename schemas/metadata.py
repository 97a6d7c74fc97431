"""schema.pbtxt: the record format as a tensorflow-metadata Schema, for readers that have nothing of ours.

Each column is a feature with its type and presence, and a tensor representation that says how it parses: dense with its
shape, or ragged with the keys of its row lengths. The tfmd messages write it; only the driver needs them.
"""

from collections.abc import Iterable

from schemas.record import Column, RecordSpec


def schema_pbtxt(spec: RecordSpec) -> str:
    """Text of the Schema of the train records."""
    from google.protobuf import text_format  # tensorflow-metadata comes with the driver's extra, not the executors'
    from tensorflow_metadata.proto.v0 import schema_pb2

    columns = spec.train_columns()
    sizes = _sizes(spec)
    types = {"int64": schema_pb2.INT, "float32": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}
    schema = schema_pb2.Schema()
    group = schema.tensor_representation_group[""].tensor_representation
    partitions = {key for column in columns for key in column.lengths}
    for column in columns:
        feature = schema.feature.add(name=column.key, type=types[column.dtype])
        feature.presence.min_fraction = 1.0
        if column.key in sizes:
            feature.int_domain.min, feature.int_domain.max = 0, sizes[column.key] - 1
        if column.shape is not None:
            for size in column.shape:
                feature.shape.dim.add(size=size)
            feature.shape.SetInParent()
        if column.key not in partitions:
            _represent(group[column.key], column)
    return str(text_format.MessageToString(schema))


def _represent(representation: object, column: Column) -> None:
    if column.shape is not None:
        dense = representation.dense_tensor  # type: ignore[attr-defined]
        dense.column_name = column.key
        for size in column.shape:
            dense.shape.dim.add(size=size)
        dense.shape.SetInParent()
        return
    ragged = representation.ragged_tensor  # type: ignore[attr-defined]
    ragged.feature_path.step.append(column.key)
    for key in column.lengths:
        ragged.partition.add(row_length=key)
    if column.width > 1:
        ragged.partition.add(uniform_row_length=column.width)


def _sizes(spec: RecordSpec) -> dict[str, int]:
    """Indices that each indexed key may hold, by key."""
    sides: Iterable[tuple[str, tuple[object, ...]]] = (
        ("user", spec.user),
        ("item", spec.item),
        ("history", spec.history_fields),
    )
    return {f"{side}.{field.name}": field.size for side, fields in sides for field in fields if field.size}  # type: ignore[attr-defined]
