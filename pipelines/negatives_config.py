"""The grammar of a job file's negatives: strategies, mixtures of them, and what may not be drawn."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.duration import Duration
from samplers import mixture, strategies
from schemas.configuration import Strict


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
