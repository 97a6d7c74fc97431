"""schema.pbtxt reads back as a tensorflow-metadata Schema that covers every key."""

import dataclasses

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.metadata import schema_pbtxt
from tests.schemas.test_codec import BLOCK, POOL, SPEC


@pytest.mark.parametrize(
    "spec", [SPEC, BLOCK, POOL, dataclasses.replace(SPEC, mask=True)], ids=["row", "own", "pool", "mask"]
)
def test_every_key_has_its_type_and_a_way_to_parse_it(spec):
    schema = text_format.Parse(schema_pbtxt(spec), schema_pb2.Schema())
    columns = {column.key: column for column in spec.train_columns()}
    assert {feature.name for feature in schema.feature} == columns.keys()
    represented = schema.tensor_representation_group[""].tensor_representation
    partitions = {key for column in columns.values() for key in column.lengths}
    assert set(represented) == columns.keys() - partitions
    for key, representation in represented.items():
        if columns[key].shape is not None:
            assert [dim.size for dim in representation.dense_tensor.shape.dim] == list(columns[key].shape)
        else:
            assert [p.row_length for p in representation.ragged_tensor.partition if p.row_length] == list(
                columns[key].lengths
            )


def test_indices_have_their_domain():
    schema = text_format.Parse(schema_pbtxt(SPEC), schema_pb2.Schema())
    domains = {feature.name: feature.int_domain.max for feature in schema.feature if feature.HasField("int_domain")}
    assert domains["item.item_id"] == 9
    assert domains["history.genres"] == 8
    assert domains["user.age"] == 4
