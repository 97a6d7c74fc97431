"""The feature spec that a user writes: a name, how its column is encoded, and its shape.

One spec feeds everything that follows: what the producer encodes, what a record holds, how TensorFlow parses it and
what the towers build. It is resolved once, when vocabularies and boundaries are known, into `schemas.record.Field`.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from schemas.configuration import Strict

RESERVED_NAMES = frozenset({"index", "log_q", "mask", "count", "key", "title", "lengths"})


class Vocabulary(Strict):
    """A value becomes its index by falling training frequency; 0 is out of vocabulary or missing."""

    encode: Literal["vocabulary"]
    shape: Literal["scalar", "list"] = "scalar"
    column: str | None = None
    min_count: int = Field(1, ge=1)
    max_size: int | None = Field(None, ge=1)


class Buckets(Strict):
    """A number becomes the index of its interval, counted from 1; 0 is missing."""

    encode: Literal["buckets"]
    shape: Literal["scalar"] = "scalar"
    column: str | None = None
    boundaries: list[float] | None = None
    quantiles: int | None = Field(None, ge=2, le=10_000)

    @field_validator("boundaries")
    @classmethod
    def _rising(cls, boundaries: list[float] | None) -> list[float] | None:
        if boundaries is not None:
            if not boundaries:
                raise ValueError("expected at least one boundary")
            if any(low >= high for low, high in pairwise(boundaries)):
                raise ValueError(f"boundaries must rise strictly; got {boundaries}")
        return boundaries

    @model_validator(mode="after")
    def _one_of_two(self) -> "Buckets":
        if (self.boundaries is None) == (self.quantiles is None):
            raise ValueError("buckets need either boundaries: [...] or quantiles: N")
        return self


class Plain(Strict):
    """A number, or a dense vector of fixed length, kept as float32; `default` stands for missing ones."""

    encode: Literal["none"]
    shape: Literal["scalar"] | Annotated[list[int], Field(min_length=1, max_length=1)] = "scalar"
    column: str | None = None
    default: float = 0.0

    @field_validator("shape")
    @classmethod
    def _positive(cls, shape: str | list[int]) -> str | list[int]:
        if isinstance(shape, list) and shape[0] < 1:
            raise ValueError(f"a vector has at least one number; got shape {shape}")
        return shape


def _encoding(spec: object) -> str | None:
    value = spec.get("encode") if isinstance(spec, dict) else getattr(spec, "encode", None)
    return value if isinstance(value, str) else None


FeatureSpec = Annotated[
    Annotated[Vocabulary, Tag("vocabulary")] | Annotated[Buckets, Tag("buckets")] | Annotated[Plain, Tag("none")],
    Discriminator(
        _encoding,
        custom_error_type="unknown_encoding",
        custom_error_message="expected encode: vocabulary, buckets or none",
    ),
]
