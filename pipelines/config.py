"""The producer's configuration: a whole job file, checked before Spark starts.

Inputs and features are in `input_config`, strategies and exclusion in `negatives_config`, and what sections demand of
each other in `config_rules`.
"""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines import config_rules
from pipelines.duration import BeforeEnd, Duration, seconds
from pipelines.input_config import Clicks, Features, ImpressionTable, Items, Users
from pipelines.negatives_config import Negatives
from schemas import record, storage
from schemas.configuration import Strict

LEAST_ABANDONED_SECONDS = 60  # a run shows life every 10 s, and a shared file system may tell of it late


class Catalogue(Strict):
    """How the catalogue is kept: mapped as a whole, or partitioned, where it is larger than a machine's memory.

    `auto` maps up to `mapped_bytes` of items (as Arrow holds them, about what they are encoded), and more where a
    partitioned catalogue does not serve the job. partition_bytes: of items, a part.
    """

    kind: Literal["auto", "mapped", "partitioned"] = "auto"
    mapped_bytes: int = Field(4 << 30, ge=0)  # 4 GiB
    partition_bytes: int = Field(64 << 20, ge=1)  # 64 MiB


class History(Strict):
    """The user's earlier clicks. ties: `exclude` leaves out clicks of the same time; `order` goes by item id among
    them.
    """

    features: list[str] = Field(default_factory=list)
    length: int = Field(50, ge=1, le=100_000)
    ties: Literal["exclude", "order"] = "exclude"


class Frequencies(Strict):
    """What proposals count. weighted: sum the clicks' weights instead of counting clicks. window: only clicks of so
    long before the latest training click. half_life: a click that much older counts half.

    Vocabularies and the order of items stay those of plain training clicks.
    """

    weighted: bool = False
    window: Duration | None = None
    half_life: Duration | None = None

    @property
    def plain(self) -> bool:
        """Whether every training click counts one."""
        return not self.weighted and self.window is None and self.half_life is None


class Examples(Strict):
    """per_user: at most so many training examples a user in each set of negatives; every click stays in histories."""

    per_user: int | None = Field(None, ge=1)


class RowLayout(Strict):
    """One record a click."""

    kind: Literal["row"]

    @property
    def clicks(self) -> int:
        return 1


class BlockLayout(Strict):
    """One record for `clicks` clicks, with one table of the items they use."""

    kind: Literal["block"]
    clicks: int = Field(512, ge=1, le=1_000_000)


class SequenceLayout(Strict):
    """One record for windows of at most `positions` clicks in all; more than `window` clicks of a user are several."""

    kind: Literal["sequence"]
    positions: int = Field(2048, ge=1, le=1_000_000)
    window: int = Field(200, ge=1, le=100_000)

    @property
    def clicks(self) -> int:
        return self.positions


class NoSplit(Strict):
    """Every click is for training."""

    kind: Literal["none"] = "none"


class LeaveLastSplit(Strict):
    """A user's last click is the test, the one before it the validation; users with fewer than 3 clicks only train."""

    kind: Literal["leave_last"]
    per: Literal["user"] = "user"


Moment = dt.datetime | dt.date | int | float | BeforeEnd


class TimeSplit(Strict):
    """Clicks from `test_from` on are the test, those from `validation_from` up to it the validation. UTC, or clicks'
    unit, or so long before the end of the day that the job is for (-1d).
    """

    kind: Literal["time"]
    test_from: Moment
    validation_from: Moment | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "TimeSplit":
        earlier, later = self.validation_from, self.test_from
        if isinstance(earlier, str) and isinstance(later, str):
            reversed_ = seconds(earlier[1:]) < seconds(later[1:])
        else:
            reversed_ = type(earlier) is type(later) and earlier > later  # type: ignore[operator]
        if reversed_:
            raise ValueError(
                f"validation_from {earlier} comes after test_from {later}; it must be the earlier of the two"
            )
        return self


class Output(Strict):
    """Where the dataset goes; `shards` files for each split and each set of negatives.

    abandoned_after: how long a run on another machine may show no sign of life before it counts as dead.
    work: a folder on a disk that driver and executors share, for what tasks map while the run lasts; where the output
    lies on an object store, as otherwise that lies in the output. On one machine the system's temporary folder will do.
    """

    path: str
    work: str | None = None
    shards: int = Field(8, ge=1, le=100_000)
    compression: Literal["none", "gzip"] = "none"
    abandoned_after: Duration = "5m"

    @property
    def abandoned_seconds(self) -> float:
        """`abandoned_after` in seconds."""
        return float(seconds(self.abandoned_after))

    @model_validator(mode="after")
    def _work_for_stores_alone(self) -> "Output":
        if self.work is not None and not storage.is_remote(self.path):
            raise ValueError("work is for outputs on an object store, a local one needs none; leave it out")
        return self

    @field_validator("work")
    @classmethod
    def _on_a_disk(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not value.startswith("file:"):
            raise ValueError(f"a folder on a disk expected, got {value}")
        return value

    @field_validator("abandoned_after")
    @classmethod
    def _longer_than_signs_apart(cls, value: str) -> str:
        if seconds(value) < LEAST_ABANDONED_SECONDS:
            raise ValueError(f"at least {LEAST_ABANDONED_SECONDS}s expected, got {value}")
        return value


class Limits(Strict):
    """rejected_share: how much of an input may be rejected before the job fails."""

    rejected_share: float = Field(0.01, ge=0, le=1)


class Config(Strict):
    """A whole job. date: the day that it is for, as --date. inherit: a dataset whose indices stay, or `previous` for
    that of the latest day before; see pipelines/inheritance.py.
    """

    date: dt.date | None = None
    inherit: str | None = Field(None, min_length=1)
    clicks: Clicks
    items: Items
    catalogue: Catalogue = Field(default_factory=Catalogue)
    users: Users | None = None
    impressions: ImpressionTable | None = None
    features: Features
    history: History = Field(default_factory=History)
    frequencies: Frequencies = Field(default_factory=Frequencies)
    examples: Examples = Field(default_factory=Examples)
    negatives: Negatives = Field(default_factory=Negatives)
    layout: Annotated[RowLayout | BlockLayout | SequenceLayout, Field(discriminator="kind")] = BlockLayout(kind="block")
    split: Annotated[NoSplit | LeaveLastSplit | TimeSplit, Field(discriminator="kind")] = NoSplit()
    output: Output
    limits: Limits = Field(default_factory=Limits)

    @property
    def unique(self) -> bool | Literal["tensorflow"]:
        """Whether negatives are drawn without replacement, or TensorFlow's way of doing so."""
        return self.layout.kind == "sequence" if self.negatives.unique is None else self.negatives.unique

    @model_validator(mode="after")
    def _together(self) -> "Config":
        problems = config_rules.problems(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self


def record_spec(
    config: Config, user: tuple[record.Field, ...], item: tuple[record.Field, ...], gone: bool = False
) -> record.RecordSpec:
    """The record format of a job, once its features are resolved. gone: whether some items have left the table."""
    return record.RecordSpec(
        user=user,
        item=item,
        history=tuple(config.history.features),
        history_length=config.history.length,
        layout=config.layout.kind,
        clicks=config.layout.clicks,
        negatives=config.negatives.count,
        per=config.negatives.per,
        mask=config.negatives.shortage == "mask",
        window=config.layout.window if config.layout.kind == "sequence" else 0,
        ties=config.history.ties,
        log_q="candidate" if config.negatives.proposal.click_dependent else "item",
        frequency=not config.frequencies.plain,
        unique=config.negatives.per == "click" and config.unique is True,
        gone=gone,
    )
