"""The grammar of a job file's inputs: the tables that a job reads, and the features that it takes from them."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.duration import Duration
from schemas.configuration import Strict
from schemas.features import RESERVED_NAMES, FeatureSpec

Format = Literal["parquet", "orc", "csv", "json", "table"]


class Input(Strict):
    """A table that Spark reads. `format` is guessed from the path's ending; `filter` is an SQL condition on rows."""

    path: str
    format: Format | None = None
    filter: str | None = None


class Weight(Strict):
    """What a click counts in the loss: the number in `column`, or what `values` says of the event in it.

    A click of weight 0 is no example, neither to train nor to test on, but stays in histories. An event that `values`
    does not name has the weight `default`; without one, its clicks are rejected.
    """

    column: str
    values: dict[str, Annotated[float, Field(ge=0, le=1e30)]] | None = Field(None, min_length=1)
    default: float | None = Field(None, ge=0, le=1e30)

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, values: Any) -> Any:
        """Events as Spark writes them: YAML reads 1 and true as no text."""
        if not isinstance(values, dict):
            return values
        return {str(key).lower() if isinstance(key, bool) else str(key): value for key, value in values.items()}

    @model_validator(mode="after")
    def _together(self) -> "Weight":
        if self.default is not None and self.values is None:
            raise ValueError("default is for events that values does not name; give values, or leave default out")
        return self


class Clicks(Input):
    """One row a positive interaction. `time_unit: auto` reads fractional numbers as seconds, whole ones by size.

    negatives: a column of lists of item ids, to be drawn from by the strategy `column`.
    exclude: a column of lists of item ids that are not to be drawn (`listed` in negatives.exclude).
    session: a column that tells a user's sessions apart; session_gap: a pause that ends one (`session` there). A click
    without a session is one of its own.
    window, arrived, watermark: of a job for a day (--date), see pipelines/days.py: read clicks of so long before its
    end, of which the column `arrived` says that they had arrived so long after it.
    """

    user: str
    item: str
    time: str
    weight: Weight | None = None
    time_unit: Literal["auto", "seconds", "milliseconds", "microseconds"] = "auto"
    negatives: str | None = None
    exclude: str | None = None
    session: str | None = None
    session_gap: Duration | None = None
    window: Duration | None = None
    arrived: str | None = None
    watermark: Duration | None = None

    @field_validator("weight", mode="before")
    @classmethod
    def _column(cls, weight: Any) -> Any:
        return {"column": weight} if isinstance(weight, str) else weight


class ImpressionTable(Input):
    """One row an item that was shown to a user, clicked or not; times may be of another unit than the clicks'."""

    user: str
    item: str
    time: str
    time_unit: Literal["auto", "seconds", "milliseconds", "microseconds"] = "auto"


class Items(Input):
    """One row an item; `title` is what reports show a person.

    available_from, available_to: an item is drawn for clicks from the one time on and before the other; null where
    there is no limit. Timestamps or text, or whole numbers in the clicks' unit.
    """

    key: str
    title: str | None = None
    available_from: str | None = None
    available_to: str | None = None


class Users(Input):
    """One row a user."""

    key: str


class Features(Strict):
    """Features by the side they belong to."""

    user: dict[str, FeatureSpec] = Field(default_factory=dict)
    item: dict[str, FeatureSpec]

    @model_validator(mode="after")
    def _names(self) -> "Features":
        if not self.item:
            raise ValueError("item: at least one item feature is needed, or there is nothing to learn from")
        both = sorted(self.user.keys() & self.item.keys())
        if both:
            raise ValueError(f"{both[0]!r} names a user and an item feature; rename one and give its column: {both[0]}")
        for name in (*self.user, *self.item):
            if name in RESERVED_NAMES:
                raise ValueError(f"{name!r} is a reserved name; rename the feature and give its column: {name}")
            if not name.isidentifier() or not name.isascii():
                raise ValueError(
                    f"{name!r} is no feature name: letters, digits and underscores; column: gives the source"
                )
        return self
