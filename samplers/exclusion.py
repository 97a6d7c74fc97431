"""What may not be drawn, and the probability that remains.

A click's excluded items are those of its user's earlier clicks, of all of its user's or its session's training clicks,
its own, and those of a list; besides, whatever was not available at the time. But for lists nothing is stored a click:
what a user or a session had is excluded for runs of their rows (`samplers.spans`), so the excluded mass is a difference
of sums of integers, exact for any number of items. In time n log n for n clicks, also where they are all one user's.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplers.availability import Availability
from samplers.pairs import Pairs, distinct
from samplers.spans import Groups, Spans, concatenated, refined

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DENSE = 16  # who knows more than one in so many items gets a table of all; 128 bytes a known item at most


@dataclass(frozen=True)
class Exclusion:
    """Items excluded for each of n clicks, which are sorted by user and time.

    start, end: [n] rows; with `history`, the same user's clicks in [start, end) exclude their items: the earlier ones,
      or all training clicks. `end` never falls. item: [n] item indices, below `items`.
    positive: whether a click's own item is excluded.
    session: [n] from 0 to n - 1, of one user each: what is clicked in a session, as far as it is `trained` [n], is
      excluded for all its clicks.
    listed: (items, offsets [n + 1]) of what is excluded for each click besides; in any order, also repeated.
    availability: what else cannot be drawn at the `time` [n] of each click, which rises within a user.
    """

    start: Ints
    end: Ints
    item: Ints
    items: int
    history: bool
    positive: bool
    session: Ints | None = None
    trained: Bools | None = None
    listed: tuple[Ints, Ints] | None = None
    time: Ints | None = None
    availability: Availability | None = None

    @property
    def in_runs(self) -> bool:
        """Whether all that is excluded is a user's from some click on, or a click's own item."""
        return self.session is None and self.listed is None and self.availability is None

    @property
    def first_of_row(self) -> Ints:
        """[n] the row of the first click of the same user on the same item."""
        return self._index[2]

    @property
    def first(self) -> Bools:
        """[n] whether a row is its user's first click on its item."""
        first: Bools = self.first_of_row == np.arange(len(self.item))
        return first

    def first_click(self, start: Ints, item: Ints) -> Ints:
        """The row of a user's first click on an item, -1 for none; users are told by the row of their first click."""
        heavy, table = self._heavy
        if not len(heavy):
            return self._found(start, item)
        user = np.minimum(np.searchsorted(heavy, start), len(heavy) - 1)
        out: Ints = table[user, item]
        light = np.flatnonzero(heavy[user] != start)
        out[light] = self._found(start[light], item[light])
        return out

    def known(self, row: int) -> Ints:
        """The items of the history of one click, which are excluded for it and all later ones of its user; rising."""
        if not self.history:
            return np.zeros(0, np.int64)
        pairs, first, _ = self._index
        begin, end, keys = pairs.of(self.start[[row]], self.items)
        some = slice(int(begin[0]), int(end[0]))
        items: Ints = keys[some][first[some] < self.end[row]] % self.items
        return items

    def known_from(self, row: Ints) -> Ints:
        """The first row whose history reaches the click at `row`; maybe one of the next user's."""
        return np.searchsorted(self.end, row, side="right")

    def excluded(self, row: Ints, item: Ints) -> Bools:
        """[of item's shape] whether each item may not be drawn for the click beside it.

        row: of the item's shape, or [clicks, 1] beside items [clicks, any].
        """
        out, flat = np.zeros(item.size, bool), item.reshape(-1)
        rows, each = row.reshape(-1), max(1, item.size // max(row.size, 1))
        possible = np.flatnonzero(self._possible(row, item))
        if len(possible):
            own, drawn = rows[possible // each], flat[possible]
            out[possible] = self._clicked(own, drawn) | self._lists.place(own * self.items + drawn)[1]
            if self.positive:
                out[possible] |= drawn == self.item[own]
        if self.availability is not None:
            limited = np.flatnonzero(self._limited[flat])
            out[limited] |= self.availability.unavailable(flat[limited], self.times[rows[limited // each]])
        return out.reshape(item.shape)

    def mass(self, mass: Ints, label: Ints | None = None) -> Ints:
        """[n] integer mass of each click's excluded items, given that of every item [items].

        label: [items]; then only items with the label of the click's positive count.
        """
        out = np.zeros(len(self.item), np.int64)
        for spans in self.spans if label is None else self._spans(label):
            out += spans.summed(mass[spans.item])
        row, item = self._alike(label)
        np.add.at(out, row, mass[item])
        if self.availability is not None:
            wanted = None if label is None else label[self.item]
            out += self.availability.mass(self.times, mass, label, wanted)
        return out

    @functools.cached_property
    def spans(self) -> list[Spans]:
        """What is excluded for runs of clicks: an item and a row are in at most one span. Only what is available."""
        return self._spans(None)

    @functools.cached_property
    def singles(self) -> tuple[Ints, Ints]:
        """(rows, items) of what no span excludes and is available: positives and lists."""
        row, item = np.divmod(self._lists.keys, self.items)
        if self.positive:
            row, item = np.append(np.arange(len(self.item)), row), np.append(self.item, item)
        new = ~self._clicked(row, item)
        if self.positive:
            new[len(self.item) :] &= item[len(self.item) :] != self.item[row[len(self.item) :]]
        if self.availability is not None:
            new &= ~self.availability.unavailable(item, self.times[row])
        return row[new], item[new]

    def runs(self, label: Ints | None = None) -> list[Spans]:
        """`spans`, and `singles` as runs of one click: all that is excluded and available, each once.

        label: [items]; then only items with the label of the click's positive.
        """
        (row, item), spans = self._alike(label), self.spans if label is None else self._spans(label)
        return [*spans, Spans(np.arange(len(self.item)), item, row, row + 1)] if len(row) else spans

    def items_of(self, row: int) -> Ints:
        """Every item that may not be drawn for one click, sorted."""
        return self.lists(np.array([row]))[0]

    def lists(self, rows: Ints) -> tuple[Ints, Ints]:
        """(what may not be drawn for each of some clicks, one after the other, sorted and once; how many each has)."""
        found = [np.zeros(0, np.int64)]
        for begin, end, values in self._ranges(rows):
            place, owner = concatenated(begin, end)
            found.append(owner * self.items + values[place] % self.items)
        owner, item = np.divmod(distinct(np.concatenate(found)), self.items)
        return item, np.bincount(owner, minlength=len(rows))

    def sizes(self, rows: Ints) -> Ints:
        """[rows] at least as many as the items that may not be drawn for each of these clicks."""
        sizes = np.zeros(len(rows), np.int64)
        for begin, end, _ in self._ranges(rows):
            sizes += end - begin
        return sizes

    def _ranges(self, rows: Ints) -> list[tuple[Ints, Ints, Ints]]:
        """(begin, end, values): what the values [begin, end) say, modulo `items`, is excluded for each of the rows."""
        found = []
        if self.history:
            found.append((self.start[rows], self.end[rows], self.item))
        if self.session is not None:
            found.append(self._sessions[0].of(self.session[rows], self.items))
        if self.listed is not None:
            found.append(self._lists.of(rows, self.items))
        if self.positive:
            found.append((rows, rows + 1, self.item))
        if self.availability is not None:
            found += self.availability.ranges(self.times[rows])
        return found

    def _alike(self, label: Ints | None) -> tuple[Ints, Ints]:
        """`singles`, only of items with the label of the row's positive."""
        row, item = self.singles
        alike = np.ones(len(row), bool) if label is None else label[item] == label[self.item[row]]
        return row[alike], item[alike]

    def _spans(self, label: Ints | None) -> list[Spans]:
        """`spans`, only of the rows whose positive has the item's label."""
        own, found = None if label is None else label[self.item], []
        if self.history:
            rows = np.flatnonzero(self.first)
            groups = Groups(refined(self.start, own))
            group = groups.of_row[rows]
            found.append(self._span(groups, rows, groups.first_at(self.end, group, rows + 1), groups.edges[group + 1]))
        if self.session is not None:
            rows = self._sessions[1]
            groups = Groups(refined(self.session, own))
            group = groups.of_row[rows]
            # What the history excludes already is left to it.
            stop = (
                groups.first_at(self.end, group, self.first_of_row[rows] + 1)
                if self.history
                else groups.edges[group + 1]
            )
            found.append(self._span(groups, rows, groups.edges[group], stop))
        return found

    def _span(self, groups: Groups, row: Ints, begin: Ints, end: Ints) -> Spans:
        """The items of some rows for a run of their group's places each, as far as they are available there."""
        item = self.item[row]
        if self.availability is not None:
            moments, rank = np.unique(self.times, return_inverse=True)
            from_, to = (
                np.searchsorted(moments, edge[item]) for edge in (self.availability.begin, self.availability.end)
            )
            begin = np.maximum(begin, groups.first_at(rank, groups.of_row[row], from_))
            end = np.minimum(end, groups.first_at(rank, groups.of_row[row], to))
        some = begin < end
        return Spans(groups.order, item[some], begin[some], end[some])

    def _possible(self, row: Ints, item: Ints) -> Bools:
        """[of item's shape] False where no click and no list excludes an item for the click beside it."""
        if self.history or self.session is not None:
            possible = self._index[0].maybe(self.start[row] * self.items, item)
        else:
            possible = item == self.item[row] if self.positive else np.zeros(item.shape, bool)
        return possible if self.listed is None else possible | self._lists.maybe(row * self.items, item)

    def _clicked(self, row: Ints, item: Ints) -> Bools:
        """Whether history or session exclude each item for the click beside it."""
        clicked = np.zeros(item.shape, bool)
        if self.history:
            first = self.first_click(self.start[row], item)
            clicked |= (first >= 0) & (first < self.end[row])
        if self.session is not None:
            clicked |= self._sessions[0].place(self.session[row] * self.items + item)[1]
        return clicked

    def _found(self, start: Ints, item: Ints) -> Ints:
        pairs, first, _ = self._index
        place, there = pairs.place(start * self.items + item)
        return np.where(there, first[place], -1) if len(first) else np.full(item.shape, -1)

    @functools.cached_property
    def _heavy(self) -> tuple[Ints, Ints]:
        """(first rows of users who know a good part of all items, [users, items] their first clicks on each, or -1).

        Nearly all that is drawn for them has to be looked up, which a table does in a fifth of a search's time.
        """
        _, first, _ = self._index
        user, own, count = np.unique(self.start[first], return_inverse=True, return_counts=True)
        heavy = count * DENSE > self.items
        table = np.full((heavy.sum(), self.items), -1, np.int64)
        theirs = heavy[own]
        rows = first[theirs]
        table[(np.cumsum(heavy) - 1)[own[theirs]], self.item[rows]] = rows
        return user[heavy], table

    @functools.cached_property
    def _index(self) -> tuple[Pairs, Ints, Ints]:
        """(pairs of user and item, first row of each, first row of each row's pair)."""
        keys = self.start * self.items + self.item
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        return Pairs(distinct), first, first[inverse]

    @functools.cached_property
    def _sessions(self) -> tuple[Pairs, Ints]:
        """(pairs of session and item of training clicks, a row of each)."""
        rows = np.flatnonzero(self._trained)
        label = self.start if self.session is None else self.session
        keys, first = np.unique(label[rows] * self.items + self.item[rows], return_index=True)
        return Pairs(keys), rows[first]

    @functools.cached_property
    def _lists(self) -> Pairs:
        """Pairs of row and item."""
        if self.listed is None:
            return Pairs(np.zeros(0, np.int64))
        values, offsets = self.listed
        return Pairs(distinct(np.repeat(np.arange(len(self.item)), np.diff(offsets)) * self.items + values))

    @functools.cached_property
    def _limited(self) -> Bools:
        """[items] what is unavailable at some time of these clicks."""
        if self.availability is None or not len(self.item):
            return np.zeros(self.items, bool)
        return self.availability.sometimes_unavailable(int(self.times.min()), int(self.times.max()))

    @property
    def _trained(self) -> Bools:
        return np.ones(len(self.item), bool) if self.trained is None else self.trained

    @property
    def times(self) -> Ints:
        """[n] the time of each click, where availability asks for it."""
        if self.time is None:
            raise ValueError("availability needs the time of each click")
        return self.time
