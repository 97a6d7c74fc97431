"""The producer's configuration: the grammar of a job file, checked as a whole before Spark starts."""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.duration import BeforeEnd, Duration, seconds
from samplers import mixture, strategies
from schemas import record, storage
from schemas.configuration import Strict
from schemas.features import RESERVED_NAMES, FeatureSpec

CATALOGUE_WIDE = ("uniform", "popularity", "log_uniform")  # strategies that are one distribution for all clicks
DAYS = ("date", "first", "last")  # what {...} in paths and filters may stand for
LEAST_ABANDONED_SECONDS = 60  # a run shows life every 10 s, and a shared file system may tell of it late

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


class Catalogue(Strict):
    """How the catalogue is kept: mapped as a whole, or partitioned, where it is larger than a machine's memory.

    `auto` maps up to `mapped_bytes` of items (as Arrow holds them, about what they are encoded), and more where a
    partitioned catalogue does not serve the job. partition_bytes: of items, a part.
    """

    kind: Literal["auto", "mapped", "partitioned"] = "auto"
    mapped_bytes: int = Field(4 << 30, ge=0)  # 4 GiB
    partition_bytes: int = Field(64 << 20, ge=1)  # 64 MiB


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


class Uniform(Strict):
    """Every item alike."""


class Popularity(Strict):
    """Training frequency to a power."""

    exponent: float = Field(0.75, ge=0, le=10)


class LogUniform(Strict):
    """By rank, as TensorFlow's log_uniform_candidate_sampler."""


class InBatch(Strict):
    """Positives of other clicks of the block."""


class SameAttribute(Strict):
    """Items that share the positive's value of a feature, by training frequency to a power.

    least: with fewer items of the group left to draw, the slots go to the strategies over the whole catalogue.
    """

    feature: str
    exponent: float = Field(0.75, ge=0, le=10)
    least: int = Field(5, ge=1)


class Impressions(Strict):
    """Shown to the user within `window` before the click and left; at most the `most` latest."""

    window: Duration = "30m"
    most: int = Field(100, ge=1, le=100_000)


class ListColumn(Strict):
    """Lists of item ids beside the clicks: clicks.negatives."""


class Mined(Strict):
    """Lists that `python -m pipelines.mine` wrote."""

    path: str


STRATEGIES = (*strategies.CATALOGUE_WIDE, *strategies.CLICK_DEPENDENT)


class Strategy(Strict):
    """Exactly one strategy by its name."""

    uniform: Uniform | None = None
    popularity: Popularity | None = None
    log_uniform: LogUniform | None = None
    in_batch: InBatch | None = None
    same_attribute: SameAttribute | None = None
    impressions: Impressions | None = None
    column: ListColumn | None = None
    mined: Mined | None = None

    @field_validator(*STRATEGIES, mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _one(self) -> "Strategy":
        if len(self.named) != 1:
            raise ValueError(
                f"expected exactly one strategy ({', '.join(STRATEGIES)}), got {', '.join(self.named) or 'none'}"
            )
        return self

    @property
    def named(self) -> list[str]:
        return [name for name in STRATEGIES if name in self.model_fields_set]

    @property
    def component(self) -> "Component":
        """(strategy, share, parameters), as `samplers` takes them."""
        (name,) = self.named
        return name, getattr(self, "share", 1.0), getattr(self, name).model_dump()


Component = tuple[str, float, dict[str, Any]]


class Share(Strategy):
    """A strategy and its part of a mixture."""

    share: float = Field(gt=0)


class Proposal(Strategy):
    """One strategy, or a mixture of several."""

    mixture: list[Share] | None = Field(None, min_length=1)

    @property
    def named(self) -> list[str]:
        return [name for name in (*STRATEGIES, "mixture") if name in self.model_fields_set]

    @field_validator("mixture")
    @classmethod
    def _sums_to_one(cls, mixture: list[Share] | None) -> list[Share] | None:
        if mixture is not None and abs(sum(part.share for part in mixture) - 1) > 1e-6:
            raise ValueError(f"shares must sum to 1; they sum to {sum(part.share for part in mixture):g}")
        return mixture

    @property
    def components(self) -> list[Component]:
        """Every (strategy, share, parameters) of the mixture."""
        return [part.component for part in self.mixture] if self.mixture is not None else [self.component]

    @property
    def catalogue_wide(self) -> list[Component]:
        """Those that are one distribution over the catalogue."""
        return [part for part in self.components if part[0] in strategies.CATALOGUE_WIDE]

    @property
    def click_dependent(self) -> list[Component]:
        """Those that have slots of their own."""
        return [part for part in self.components if part[0] in strategies.CLICK_DEPENDENT]

    @property
    def in_batch_share(self) -> float:
        """The part that comes from the clicks' own blocks, of all that is drawn over the whole catalogue."""
        own = sum(share for name, share, _ in self.catalogue_wide if name == "in_batch")
        return own / sum(share for _, share, _ in self.catalogue_wide) if own else 0.0

    def slots(self, count: int) -> list[int]:
        """How many of `count` negatives the catalogue-wide strategies have together, and each click-dependent one."""
        wide = sum(share for _, share, _ in self.catalogue_wide)
        return mixture.slots([wide, *(share for _, share, _ in self.click_dependent)], count)


LEVELS = ("positive", "history", "user", "session", "listed")


class Negatives(Strict):
    """A click's negatives. `epochs` independent sets are drawn; `shortage` is for clicks with nothing to draw.

    exclude: what may not be drawn for a click: its own item (positive), besides what its user had before (history), has
    in any training click (user) or in one of the same session (session), or what clicks.exclude lists (listed).

    unique: draw without replacement, a pool or each click's own; `tensorflow` draws a pool as TensorFlow's candidate
    samplers do; null is true for sequences alone.
    """

    proposal: Proposal = Field(default_factory=lambda: Proposal(popularity=Popularity()))
    per: Literal["click", "block"] = "click"
    count: int = Field(20, ge=1, le=1_000_000)
    exclude: str | list[str] = "history"
    epochs: int = Field(1, ge=1, le=1_000)
    seed: int = Field(42, ge=0, lt=1 << 63)
    shortage: Literal["error", "mask"] = "error"
    unique: bool | Literal["tensorflow"] | None = None

    @field_validator("exclude", mode="before")
    @classmethod
    def _known(cls, exclude: Any) -> Any:
        levels = exclude if isinstance(exclude, list) else [] if exclude == "none" else [exclude]
        strange = [level for level in levels if level not in LEVELS]
        if strange or exclude == [] or len(set(levels)) < len(levels):
            problem = (
                "a level is listed twice" if not strange and levels else f"got {strange[0] if strange else exclude!r}"
            )
            raise ValueError(f"expected none, or one or several of {', '.join(LEVELS)}; {problem}")
        return exclude

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of exclusion, sorted; empty where nothing is excluded."""
        given = self.exclude if isinstance(self.exclude, list) else [self.exclude]
        return tuple(sorted(set(given) - {"none"}))


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

    @property
    def mapped_alone(self) -> list[str]:
        """What of this job needs a mapped catalogue, each with the option that says so."""
        negatives, found = self.negatives, []
        if self.layout.kind == "sequence":
            found.append("layout.kind: sequence")
        if negatives.per == "block":
            found.append("negatives.per: block")
        if negatives.unique:
            found.append("negatives.unique: true")
        found += [
            f"negatives.proposal: {name}" for name, _, _ in negatives.proposal.components if name not in CATALOGUE_WIDE
        ]
        if "listed" in negatives.levels:
            found.append("negatives.exclude: listed")
        if not self.frequencies.plain:
            found.append("frequencies")
        if self.items.available_from is not None or self.items.available_to is not None:
            found.append("items.available_from and available_to")
        if self.inherit is not None:
            found.append("inherit")
        return found

    def _frequency_problems(self) -> Iterator[str]:
        if self.frequencies.weighted and self.clicks.weight is None:
            yield "frequencies.weighted: no weights are known; give clicks.weight, or leave it out"
        if "frequency" in self.features.item and not self.frequencies.plain:
            yield "features.item: 'frequency' is taken by frequencies; rename it and give its column: frequency"

    @model_validator(mode="after")
    def _together(self) -> "Config":
        problems = list(self._frequency_problems())
        for name in self.history.features:
            spec = self.features.item.get(name)
            if spec is None:
                problems.append(
                    f"history.features: {name!r} is no item feature; known: {', '.join(self.features.item)}"
                )
        if len(set(self.history.features)) < len(self.history.features):
            problems.append("history.features: a feature is listed twice")
        if self.negatives.per == "block" and self.layout.kind == "row":
            problems.append(
                "negatives.per: block shares a pool within a record; it needs layout.kind: block or sequence"
            )
        if self.negatives.per == "click" and self.layout.kind == "sequence":
            problems.append("negatives.per: a sequence's clicks share one pool; set negatives.per: block")
        if self.layout.kind == "sequence" and self.layout.window > self.layout.positions:
            problems.append(
                f"layout.window: {self.layout.window:,} clicks do not fit into a record of layout.positions: "
                f"{self.layout.positions:,}; lower the one or raise the other"
            )
        if self.negatives.per == "click" and self.negatives.unique == "tensorflow":
            problems.append(
                "negatives.unique: tensorflow draws a shared pool, as TensorFlow does; set per: block, or unique: true"
            )
        if self.negatives.per == "click" and self.negatives.unique:
            problems += [
                f"negatives.unique: {name} draws for each click from a list or group of its own, which goes with "
                "replacement alone; set unique: false, or leave the strategy out"
                for name, _, _ in self.negatives.proposal.components
                if name not in CATALOGUE_WIDE
            ]
        if self.negatives.per == "block" and self.negatives.shortage == "mask":
            problems.append(
                "negatives.shortage: mask is for per: click; a shared pool masks its accidental hits anyway"
            )
        problems += _of_date(self)
        problems += _of_partitions(self)
        problems += _of_strategies(self)
        problems += _of_in_batch(self)
        problems += self._without_lists() + self._exclusion_problems()
        foreign = [n for n, spec in self.features.user.items() if (spec.column or n) != self.clicks.user]
        if foreign and self.users is None:
            problems.append(
                f"features.user: {', '.join(foreign)} need users: {{path, key}}; "
                f"without it only {self.clicks.user!r} is known"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _exclusion_problems(self) -> list[str]:
        """Levels of exclusion that lack what they go by, and what no level goes by."""
        clicks, levels, problems = self.clicks, self.negatives.levels, []
        if clicks.session is not None and clicks.session_gap is not None:
            problems.append("clicks: session and session_gap both say what a session is; give one of them")
        for level, options in (("listed", ["exclude"]), ("session", ["session", "session_gap"])):
            there = [option for option in options if getattr(clicks, option) is not None]
            if level in levels and not there:
                problems.append(f"negatives.exclude: {level} needs clicks.{' or clicks.'.join(options)}")
            if there and level not in levels:
                problems.append(
                    f"clicks.{there[0]}: given, but not used; add {level} to negatives.exclude, or leave it out"
                )
        return problems

    def _without_lists(self) -> list[str]:
        """Strategies whose lists come from nowhere, and lists that no strategy draws from."""
        drawn = [name for name, _, _ in self.negatives.proposal.components]
        problems = []
        if drawn.count("mined") > 1:
            problems.append("negatives.proposal: mined is listed twice, but a click has one mined list; leave one out")
        for strategy, option, there, example in (
            ("impressions", "impressions", self.impressions is not None, "impressions: {path, user, item, time}"),
            ("column", "clicks.negatives", self.clicks.negatives is not None, "clicks.negatives: COLUMN"),
        ):
            if strategy in drawn and not there:
                problems.append(f"negatives.proposal: {strategy} has nothing to draw from; give {example}")
            if there and strategy not in drawn:
                problems.append(
                    f"{option}: given, but not drawn from; give {strategy} a share of negatives.proposal.mixture, "
                    "or leave it out"
                )
        return problems


def _of_date(config: Config) -> list[str]:
    """What counts from a day where the job is for none, or lacks what it goes by."""
    clicks, split = config.clicks, config.split
    inputs = {name: getattr(config, name) for name in ("clicks", "items", "users", "impressions")}
    texts = {
        f"{name}.{key}": getattr(source, key) or ""
        for name, source in inputs.items() if source is not None for key in ("path", "filter")
    }  # fmt: skip
    problems = [
        f"{option}: {{first}} is the day in which clicks.window begins; give clicks.window"
        for option, text in texts.items() if "{first}" in text and clicks.window is None
    ]  # fmt: skip
    if clicks.watermark is not None and clicks.arrived is None:
        problems.append("clicks.watermark: bounds when clicks arrived; give clicks.arrived: COLUMN, or leave it out")
    if config.date is not None:
        return problems
    dated = {
        "clicks.window": clicks.window is not None,
        "clicks.arrived": clicks.arrived is not None,
        "inherit: previous": config.inherit == "previous",
        **{f"split.{name}": isinstance(getattr(split, name, None), str) for name in ("test_from", "validation_from")},
        **{name: any(f"{{{day}}}" in text for day in DAYS) for name, text in texts.items()},
    }
    return problems + [
        f"{option}: counts from the day that the job is for; give --date YYYY-MM-DD, or change it"
        for option, there in dated.items() if there
    ]  # fmt: skip


def _of_partitions(config: Config) -> list[str]:
    """What a partitioned catalogue does not serve."""
    if config.catalogue.kind != "partitioned":
        return []
    return [
        f"catalogue.kind: partitioned does not serve {option}; leave that out, or set catalogue.kind: mapped"
        for option in config.mapped_alone
    ]


def _of_in_batch(config: Config) -> list[str]:
    """What is wrong with drawing from a click's own block in this job."""
    negatives, told = config.negatives, "negatives.proposal: in_batch draws from the other clicks of a block"
    if not negatives.proposal.in_batch_share:
        return []
    problems = []
    if negatives.per == "block" or config.layout.kind != "block":
        problems.append(f"{told}; set layout.kind: block and negatives.per: click, or leave it out")
    elif negatives.unique:
        problems.append(f"{told}, which may have an item twice; leave out negatives.unique, or in_batch")
    for option, there in (
        ("clicks.weight", config.clicks.weight is not None),
        ("examples.per_user", config.examples.per_user is not None),
    ):
        if there:
            problems.append(
                f"{told} as often as items are clicked, but {option} leaves clicks out; leave out one of them"
            )
    if negatives.proposal.click_dependent:
        names = ", ".join(name for name, _, _ in negatives.proposal.click_dependent)
        problems.append(f"{told}, whose log_q beside {names} would not be known; leave out one or the other")
    return problems


def _of_strategies(config: Config) -> list[str]:
    """What is wrong with the strategies of a proposal in this job."""
    negatives, where = config.negatives, "negatives.proposal"
    dependent = negatives.proposal.click_dependent
    if not dependent:
        return []
    names, problems = [name for name, _, _ in dependent], []
    if negatives.per == "block":
        problems.append(
            f"{where}: what {', '.join(names)} draw depends on the click, but here clicks share one pool; "
            "set negatives.per: click and layout.kind: row or block, or leave them out"
        )
    if negatives.unique and negatives.per == "click":
        problems.append(
            f"{where}: {', '.join(names)} cannot be drawn with negatives.unique: true, which is for strategies over "
            "the whole catalogue; leave one of the two out (lists never repeat an item anyway)"
        )
    if not negatives.proposal.catalogue_wide:
        problems.append(
            f"{where}: {names[0]} cannot fill every click's slots; mix in {' or '.join(strategies.CATALOGUE_WIDE)}"
        )
    else:
        of = [" + ".join(name for name, _, _ in negatives.proposal.catalogue_wide), *names]
        problems += [
            f"{where}: {name} gets none of negatives.count: {negatives.count} slots; raise the count or its share"
            for name, slots in zip(of, negatives.proposal.slots(negatives.count), strict=True)
            if not slots
        ]
    problems += [
        f"{where}: {name} is listed twice; a click has one list of a kind, so add the shares"
        for name in ("impressions", "column")
        if names.count(name) > 1
    ]
    for _, _, parameters in (part for part in dependent if part[0] == "same_attribute"):
        feature = parameters["feature"]
        spec = config.features.item.get(feature)
        if spec is None:
            known = ", ".join(config.features.item)
            problems.append(f"{where}.same_attribute.feature: {feature!r} is no item feature; known: {known}")
        elif spec.encode == "none" or spec.shape != "scalar":
            problems.append(
                f"{where}.same_attribute.feature: {feature!r} makes no groups; it needs one value an item, with "
                "encode: vocabulary or buckets"
            )
    return problems


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
