"""The strategies of a mixture at work in a job: what each draws from, and what each drew against what it was to draw.

Tasks count in flat arrays that add up over tasks and sets of negatives; a `Ledger` knows what stands where. Draws over
the whole catalogue and from lists are counted by cells of items. Draws within a group are counted by where in its group
an item stands, in eighths of the group's mass, as that expectation needs no pass over pairs of clicks and items; items
of another group have a cell of their own, where nothing is to be expected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.catalogue import Catalogue
from pipelines.exclusion import numbers_to_items
from pipelines.item_source import ItemsAtHand
from pipelines.plan import Plan
from pipelines.tallies import Cells
from samplers.composition import Composition, Counted
from samplers.goodness import compare
from samplers.part import Excluding
from samplers.same_attribute import Groups, groups
from samplers.strategies import CLICK_DEPENDENT
from schemas import wire
from schemas.errors import DataError

if TYPE_CHECKING:  # a task needs no pydantic
    from pipelines.config import Config

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Lists = tuple[Ints, Ints]
Dependent = Sequence[tuple[str, int, Mapping[str, Any]]]

BINS = 8


class Tallied(Protocol):
    """What draws are counted by."""

    @property
    def cells(self) -> Cells: ...

    @property
    def groups(self) -> list[Groups]: ...


def dependent(config: "Config") -> tuple[tuple[str, int, dict[str, Any]], ...]:
    """(strategy, slots, parameters) of a job's click-dependent strategies."""
    proposal = config.negatives.proposal
    found, slots = (
        proposal.click_dependent,
        proposal.slots(config.negatives.count)[1:] if proposal.click_dependent else [],
    )
    return tuple((name, number, parameters) for (name, _, parameters), number in zip(found, slots, strict=True))


def groups_of(config: "Config", catalogue: Catalogue, frequencies: Ints | Floats) -> list[Groups]:
    """Items by the feature of each same_attribute strategy: by its index, so missing and cut values are no group.

    frequencies: [items] what the proposals count.
    """
    fields = {field.name: field for field in catalogue.fields}
    return [
        groups(
            wire.numbers_of(catalogue.fragments(fields[parameters["feature"]]).values),
            frequencies,
            parameters["exponent"],
        )
        for name, _, parameters in config.negatives.proposal.click_dependent
        if name == "same_attribute"
    ]


def lists_of(table: pa.Table, found: Dependent, index_of_number: Ints) -> dict[str, Lists]:
    """(item indices one list after the other, offsets) by strategy of the lists beside clicks; null is an empty one.

    Raises:
      DataError: clicks without the column that carries a strategy's lists.
    """
    lists = {}
    for name in (name for name, _, _ in found if name != "same_attribute"):
        if f"given_{name}" not in table.column_names:
            raise DataError(f"negatives.proposal: {name} draws from lists beside the clicks, but these carry none")
        lists[name] = numbers_to_items(table[f"given_{name}"].combine_chunks(), index_of_number)
    return lists


def composition(
    found: Dependent, count: int, catalogue: ItemsAtHand, exclusion: Excluding, excluded: Ints, positive: Ints,
    lists: Mapping[str, Lists],
) -> Composition:  # fmt: skip
    """What `count` negatives of clicks are made of, whose own items are `positive` [n].

    excluded: [n] mass of what may not be drawn, under the catalogue's proposal.
    """
    from_groups = iter(catalogue.groups)
    made = []
    for name, slots, parameters in found:
        if name == "same_attribute":
            source: Any = next(from_groups)
            kept = {"least": parameters["least"]}
        else:
            source, kept = lists[name], {}
        made.append(CLICK_DEPENDENT[name](source, exclusion, positive, len(catalogue), slots, **kept))
    return Composition(Counted(catalogue.proposal), exclusion, excluded, positive, count, made)


@dataclass(frozen=True)
class Ledger:
    """cells: of items. count: K. names, slots: of the parts, the catalogue-wide strategies together first.

    bins: by part, ([items] where in its group an item stands, [items] which group that is), None for other parts.
    """

    cells: Cells
    count: int
    slots: tuple[int, ...]
    bins: tuple[tuple[Ints, Ints] | None, ...]

    @classmethod
    def of(cls, plan: Plan, catalogue: Tallied) -> "Ledger":
        """The ledger of a job."""
        slots, from_groups = [number for _, number, _ in plan.dependent], iter(catalogue.groups)
        bins: list[tuple[Ints, Ints] | None] = [None]
        for name, _, _ in plan.dependent:
            source = next(from_groups) if name == "same_attribute" else None
            bins.append(None if source is None else (source.bins(BINS), source.label))
        count = plan.record.negatives
        return cls(catalogue.cells, count, (count - sum(slots), *slots), tuple(bins))

    def among(self, catalogue: Tallied) -> "Ledger":
        """The same for the items at hand, where these are not the whole catalogue."""
        return self if catalogue.cells is self.cells else replace(self, cells=catalogue.cells)

    @property
    def sizes(self) -> list[int]:
        """How many counts each part has."""
        return [len(self.cells) if found is None else BINS + 1 for found in self.bins]

    @property
    def observed_size(self) -> int:
        """How long `observed` is."""
        return len(self.cells) + (sum(self.sizes) if len(self.slots) > 1 else 0)

    @property
    def expected_size(self) -> int:
        """How long `expected` is."""
        return sum(self.sizes) + 2 * len(self.slots)

    def observed(self, positive: Ints, negatives: Ints, taken: Ints) -> Ints:
        """Counts of negatives [n, K] that stand part after part, `taken` [n, 1 + parts] of each.

        By cells of items; where there are several parts, then part by part.
        """
        counts = [self.cells.counts(negatives.reshape(-1))]
        if len(self.slots) == 1:
            return counts[0]
        end = np.cumsum(taken, axis=1)
        part = (np.arange(self.count) >= end[:, :, None]).sum(axis=1)  # [n, K]
        for number, found in enumerate(self.bins):
            row, slot = np.nonzero(part == number)
            item = negatives[row, slot]
            if found is None:
                counts.append(self.cells.counts(item))
                continue
            bin_, label = found
            within = np.where(label[item] == label[positive[row]], bin_[item], BINS)
            counts.append(np.bincount(within, minlength=BINS + 1))
        return np.concatenate(counts)

    def expected(self, wide: Floats, made: Composition, clicks: Floats) -> Floats:
        """Counts part by part that so many sets [n] of each click's negatives are expected to give, then slots that
        parts could not fill; `wide` [cells] are those of the catalogue-wide strategies.
        """
        found = [wide]
        for part, bins in zip(made.parts, self.bins[1:], strict=True):
            cell, size = (self.cells.cell, len(self.cells)) if bins is None else (bins[0], BINS + 1)
            found.append(part.expected_by(cell, size, clicks))
        lacking = [0.0, *(float(clicks @ (part.slots - part.taken)) for part in made.parts)]
        return np.concatenate([*found, lacking, np.zeros(len(self.slots))])

    def refused(self, made: Composition, asked: int) -> Floats:
        """What a composition turned down in drawing, of `asked` catalogue-wide slots, in the place of `expected`."""
        told = np.zeros(self.expected_size)
        told[-len(self.slots) :] = [made.proposal.draws - asked, *(part.refused for part in made.parts)]
        return told

    def report(self, observed: Ints, expected: Floats, names: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
        """One entry a part: its share and slots, and its draws against their expectation.

        names: (strategy, share) of each part.
        """
        parts = len(self.slots)
        seen = self.by_part(observed[len(self.cells) :] if parts > 1 else observed)
        told = self.by_part(expected)
        lacking, refused = expected[sum(self.sizes) :].reshape(2, parts)
        return [
            {
                "strategy": name,
                "share": round(share, 9),
                "slots": self.slots[part],
                **asdict(compare(seen[part], told[part])),
                "refused": round(float(refused[part])),
                "fallen_back": round(float(lacking[part])),
            }
            for part, (name, share) in enumerate(names)
        ]

    def by_part(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The counts of each part."""
        return np.split(values[: sum(self.sizes)], np.cumsum(self.sizes)[:-1])


def proposal_report(
    config: "Config", ledger: Ledger, observed: Ints, expected: Floats, clicks_without_draws: int
) -> dict[str, Any]:
    """The manifest's `proposal`: every strategy as it was declared, all draws and each strategy's against expectation.

    Strategies over the whole catalogue are one distribution: `slots` says how many of the K they draw on average, and
    they are compared together.
    """
    proposal = config.negatives.proposal
    wide, own = proposal.catalogue_wide, iter(ledger.slots[1:])
    share = sum(part for _, part, _ in wide)
    declared = [
        {
            "strategy": name,
            "share": part,
            "slots": next(own) if name in CLICK_DEPENDENT else round(ledger.slots[0] * part / share, 6),
            **parameters,
        }
        for name, part, parameters in proposal.components
    ]
    names = [(" + ".join(name for name, _, _ in wide), share), *(part[:2] for part in proposal.click_dependent)]
    seen = observed[len(ledger.cells) :] if len(names) > 1 else observed
    return {
        "declared": declared,
        "observed": asdict(compare(seen, expected[: len(seen)])),
        "strategies": ledger.report(observed, expected, names),
        "cells": len(ledger.cells),
        "clicks_without_draws": clicks_without_draws,
    }
