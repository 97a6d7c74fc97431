"""A small dataset for audits, put together by brute force from clicks that are known one by one, in each layout.

Nothing of the producer or of the audit makes a number here: histories and exclusions are sets, probabilities sums over
all items, frames Beam's own. A fault is planted into the plain values before they are written, and the manifest is
written to agree with it.
"""

import gzip
import io
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np

from pipelines.auditing.examples import example_class
from schemas.manifest import Dataset, Manifest, Shard, Split, StoredFile
from schemas.record import Field, RecordSpec

USERS, ITEMS, CLICKS, K, N, B, LENGTH, SETS = 30, 40, 16, 5, 8, 16, 6, 2
POSITIONS, WINDOW = 40, 8
USER = (Field("user_id", "vocabulary", "user", size=USERS + 1), Field("age", "buckets", "age", size=5))
ITEM = (
    Field("item_id", "vocabulary", "id", size=ITEMS + 1),
    Field("genres", "vocabulary", "genres", "list", 6),
    Field("content", "none", "content", 2),
    Field("shop", "vocabulary", "shop", size=4),
)
MIXTURE: list[dict[str, Any]] = [
    {"strategy": "popularity", "share": 0.7, "exponent": 0.75}, {"strategy": "uniform", "share": 0.3},
]  # fmt: skip
LAYOUTS = ("row", "block", "pool", "sequence")


@dataclass
class Click:
    """before: items of the user's clicks before this one, oldest first. negatives: by set."""

    user: int
    time: int
    item: int
    before: list[int]
    negatives: list[list[int]] = field(default_factory=list)


def by_user(seed):
    """Clicks (time, item) of each user in order; times repeat, items do, and whole clicks."""
    rng = np.random.default_rng(seed)
    share = np.append(1 / np.arange(1, ITEMS - 2), np.zeros(3))
    for user in range(USERS):
        times = sorted(rng.integers(900_000_000, 900_000_060, CLICKS).tolist())
        items = rng.choice(ITEMS, CLICKS, p=share / share.sum()).tolist()
        clicks = sorted(zip(times, items, strict=True))
        # The first user's last two clicks are the same, so one is the validation and the other the test.
        yield clicks if user else [*clicks[:-1], clicks[-2]]


class World:
    """All clicks by split, items in the order of item_index with rising keys among equals, and the proposal.

    swapped: users whose last training click and held-out ones change roles. weighed: what draws follow, the proposal if
    None. kind: of negatives, "independent", "unique" (K different ones for each click), "tensorflow" (pools of
    different ones by its rejection), or "shop" (the last two of the positive's shop, where six of its items are left).
    """

    def __init__(self, declared=None, swapped=(), weighed=None, kind="independent", seed=3):
        rng = np.random.default_rng(seed)
        everybody = list(by_user(seed))
        roles = [["train"] * (CLICKS - 2) + ["validation", "test"] for _ in everybody]
        for user in swapped:
            roles[user][-3:] = ["validation", "test", "train"]
        counts = Counter(
            item for clicks, role in zip(everybody, roles, strict=True)
            for (_, item), name in zip(clicks, role, strict=True) if name == "train"
        )  # fmt: skip
        # Numbers of items rise with their keys, so they also order clicks of one time.
        order = sorted(range(ITEMS), key=lambda item: (-counts[item], item))
        index = {item: place for place, item in enumerate(order)}
        self.counts = np.array([counts[item] for item in order])
        self.items = [
            {
                "key": str(7 + 5 * item), "count": counts[item], "item_id": place + 1 if counts[item] else 0,
                "genres": [1 + (item * step) % 5 for step in range(item % 3)], "content": [item / 7, 1.0],
                "shop": item % 4,
            }
            for place, item in enumerate(order)
        ]  # fmt: skip
        self.declared = declared or MIXTURE
        self.q = proposal([part for part in self.declared if part["strategy"] != "same_attribute"], self.counts)
        self.kind = kind
        self.drawn = drawn = self.q if weighed is None else np.array(weighed) / np.sum(weighed)
        self.clicks: dict[str, list[Click]] = {"train": [], "validation": [], "test": []}
        for user, (clicks, role) in enumerate(zip(everybody, roles, strict=True)):
            told = [index[item] for _, item in clicks]
            for place, (time, _) in enumerate(clicks):
                # A training click knows of training clicks alone.
                knows = ("train",) if role[place] == "train" else ("train", "validation", "test")
                before = [item for item, name in zip(told[:place], role, strict=False) if name in knows]
                click = Click(user, time, told[place], before)
                left = np.where(np.isin(np.arange(ITEMS), [*before, told[place]]), 0, drawn)
                if role[place] == "train":
                    click.negatives = [self.drawn_for(click, left / left.sum(), rng) for _ in range(SETS)]
                self.clicks[role[place]].append(click)
        shuffled = rng.permutation(len(self.clicks["train"]))
        self.shuffled = [self.clicks["train"][i] for i in shuffled]
        self.rng = rng

    def drawn_for(self, click, left, rng):
        if self.kind == "unique":
            return systematic(inclusion(left, K), K, rng)
        group = self.of_shop(click) if self.kind == "shop" else None
        if group is None:
            return rng.choice(ITEMS, K, p=left).tolist()
        return [*rng.choice(ITEMS, K - 2, p=left).tolist(), *rng.choice(ITEMS, 2, p=group).tolist()]

    def of_shop(self, click):
        """[items] probabilities of the click's shop after exclusion, None where it has too few items left."""
        shop = [item["shop"] for item in self.items]
        mine = [i for i in range(ITEMS) if shop[i] == shop[click.item] and self.counts[i] and shop[i]]
        mine = [i for i in mine if i not in {*click.before, click.item}]
        weights = np.where(np.isin(np.arange(ITEMS), mine), self.counts, 0) ** 0.5
        return weights / weights.sum() if len(mine) >= 6 else None

    def log_q(self, click, chosen, base):
        """[1 + K] of a click's candidates; base: [items] before exclusion."""
        left = self.q.copy()
        left[[*click.before, click.item]] = 0
        if self.kind == "unique":
            return np.log(np.append(min(1.0, K * self.q[click.item]), inclusion(left / left.sum(), K)[chosen[1:]]))
        if self.kind == "independent":
            return base[chosen] - self.log_allowed(click) * (np.arange(len(chosen)) > 0)
        group, shop = self.of_shop(click), np.array([item["shop"] for item in self.items])
        own = K if group is None else K - 2
        whole = np.where(shop == shop[click.item], self.counts, 0) ** 0.5
        of_positive = own * self.q[click.item] + (0 if group is None else 2 * whole[click.item] / whole.sum())
        of_others = own * left / left.sum() + (0 if group is None else 2 * group)
        return np.log(np.append(of_positive, of_others[chosen[1:]]))

    def log_allowed(self, click):
        return math.log(1 - self.q[list({*click.before, click.item})].sum())


def proposal(declared, counts):
    """[items] by the words of the strategies' definitions."""
    q = np.zeros(len(counts))
    for part in declared:
        name = part["strategy"]
        if name == "uniform":
            weights = np.ones(len(counts))
        elif name == "log_uniform":
            weights = np.array([math.log(k + 2) - math.log(k + 1) for k in range(len(counts))])
        else:
            weights = np.array([count ** part["exponent"] if count else 0.0 for count in counts])
        q += part["share"] * weights / weights.sum()
    return q / q.sum()


def inclusion(q, count):
    """[items] min(1, c q) that sum to `count`, by bisection."""
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * q).sum() < count else (low, middle)
    return np.minimum(1, high * q)


def systematic(pi, count, rng):
    """Different items, each in with its probability: equidistant points on a random order."""
    order = rng.permutation(len(pi))
    ends = np.cumsum(pi[order])
    ends *= count / ends[-1]
    return order[np.searchsorted(ends, rng.random() + np.arange(count), side="right")].tolist()


def features(side, fields, entities, lengths=True):
    values = {}
    for each in fields:
        column = [entity[each.name] for entity in entities]
        nested = each.shape != "scalar"
        flat = [value for one in column for value in one] if nested else column
        values[f"{side}.{each.name}"] = np.array(flat, np.float32 if each.encode == "none" else np.int64)
        if each.shape == "list" and lengths:
            values[f"{side}.{each.name}.lengths"] = ints(len(one) for one in column)
    return values


def ints(values):
    return np.array(list(values), np.int64)


class Crafted:
    """records: by (split, set) a list of plain values, to be changed before `write`; they go to two shards in turn."""

    def __init__(self, layout, **options):
        self.world, self.layout = World(**options), layout
        shared = layout in ("pool", "sequence")
        kind: Any = "block" if layout == "pool" else layout
        clicks, window = {"row": 1, "block": B, "sequence": POSITIONS}[kind], WINDOW if kind == "sequence" else 0
        self.spec = RecordSpec(USER, ITEM, ("item_id", "genres"), LENGTH, kind, clicks, N if shared else K,
                               "block" if shared else "click", False, window, "order")  # fmt: skip
        with np.errstate(divide="ignore"):
            expected = inclusion(self.world.q, N) if layout == "sequence" else self.spec.negatives * self.world.q
            self.log_q = np.log(expected)
        self.records: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for number in range(SETS):
            self.records["train", number] = list(getattr(self, f"_{layout}")(number))
        for split in ("validation", "test"):
            self.records[split, 0] = [self._held_out(click) for click in self.world.clicks[split]]
        self.records["items", 0] = [self._item(index) for index in range(ITEMS)]
        used = sum(map(len, self.world.clicks.values()))
        self.rows = {"clicks": {"read": used + 3, "used": used, "rejected": 3}}
        self.declared = self.world.declared
        self.availability: dict[str, str] = {}
        unique = {"unique": True, "tensorflow": "tensorflow"}.get(self.world.kind)
        self.more = {} if unique is None else {"unique": unique}

    def _users(self, clicks):
        return features("user", USER, [{"user_id": click.user + 1, "age": click.user % 5} for click in clicks])

    def _clicks(self, clicks):
        weights = np.ones(len(clicks), np.float32)
        return {"click.time": ints(click.time for click in clicks), "click.weight": weights}

    def _of(self, side, items, fields=ITEM, lengths=True):
        return features(side, fields, [self.world.items[item] for item in items], lengths)

    def _row(self, number):
        for click in self.world.shuffled:
            chosen = [click.item, *click.negatives[number]]
            log_q = self.world.log_q(click, chosen, self.log_q)
            yield self._users([click]) | self._clicks([click]) | self._of("item", chosen) | {
                "item.index": ints(chosen), "item.log_q": log_q.astype(np.float32),
            } | self._of("history", click.before[-LENGTH:], ITEM[:2])  # fmt: skip

    def _blocks(self, number):
        clicks = self.world.shuffled
        for chunk in (clicks[i : i + B] for i in range(0, len(clicks), B)):
            pool, base = self._pool_of(), self.log_q
            if self.world.kind == "tensorflow":
                pool, base = self._rejected()
            chosen = [i for click in chunk for i in click.negatives[number]] if self.layout == "block" else pool
            table = sorted({*chosen, *(click.item for click in chunk)}, key=lambda i: i * 17 % ITEMS)
            known = sorted({i for click in chunk for i in click.before[-LENGTH:]})
            slot = {item: place for place, item in enumerate(table)}
            values = self._users(chunk) | self._clicks(chunk) | self._of("item", table)
            values |= self._of("history", known, ITEM[:2]) | {
                "history.index": ints(known), "history.lengths": ints(len(click.before[-LENGTH:]) for click in chunk),
                "block.history": ints(known.index(i) for click in chunk for i in click.before[-LENGTH:]),
                "item.index": ints(table), "item.log_q": base[table].astype(np.float32),
                "block.positive": ints(slot[click.item] for click in chunk),
                "block.negatives": ints(slot[i] for i in chosen),
            }  # fmt: skip
            yield chunk, pool, values

    def _pool_of(self):
        return self.world.rng.choice(ITEMS, N, p=self.world.drawn).tolist()

    def _rejected(self):
        """(pool, log_q) as tf.random.*_candidate_sampler(unique=True) draws and counts."""
        pool: list[int] = []
        tries = 0
        while len(pool) < N:
            item, tries = int(self.world.rng.choice(ITEMS, p=self.world.q)), tries + 1
            pool += [item] if item not in pool else []
        q = self.world.q
        return pool, np.log(N * q if tries == N else 1 - (1 - q) ** tries)

    def _block(self, number):
        for chunk, _, values in self._blocks(number):
            allowed = np.array([self.world.log_allowed(click) for click in chunk], np.float32)
            yield values | {"block.log_allowed": allowed}

    def _pool(self, number):
        for chunk, pool, values in self._blocks(number):
            hits = [
                (c, s) for c, click in enumerate(chunk) for s, i in enumerate(pool) if i in {*click.before, click.item}
            ]
            yield values | {"block.hit_click": ints(c for c, _ in hits), "block.hit_pool": ints(s for _, s in hits)}

    def _sequence(self, number):
        windows = []
        for user in range(USERS):
            mine = [click for click in self.world.clicks["train"] if click.user == user]
            cut = 3 + number
            windows += [mine[:cut], *(mine[i : i + WINDOW] for i in range(cut, len(mine), WINDOW))]
        for part in (windows[i : i + POSITIONS // WINDOW] for i in range(0, len(windows), POSITIONS // WINDOW)):
            clicks, pool = (
                [click for window in part for click in window],
                systematic(inclusion(self.world.drawn, N), N, self.world.rng),
            )
            table = sorted({*pool, *(click.item for click in clicks)})
            runs, start = [], 0
            for window in part:
                for place, item in enumerate(pool):
                    struck = [n for n, click in enumerate(window) if item in {*click.before, click.item}]
                    # From where the user had it to the end; or the click itself alone, if a tie hides it from the next.
                    runs += [(start + struck[0], place, len(window) - struck[0])] if struck else []
                start += len(window)
            yield features("user", USER, [{"user_id": w[0].user + 1, "age": w[0].user % 5} for w in part]) | {
                **self._clicks(clicks), **self._of("item", table), "item.index": ints(table),
                "item.log_q": self.log_q[table].astype(np.float32), "sequence.lengths": ints(map(len, part)),
                "sequence.item": ints(table.index(click.item) for click in clicks),
                "block.negatives": ints(table.index(i) for i in pool),
                "block.hit_click": ints(run[0] for run in runs), "block.hit_pool": ints(run[1] for run in runs),
                "block.hit_length": ints(run[2] for run in runs),
            }  # fmt: skip

    def _held_out(self, click):
        values = self._users([click]) | self._clicks([click]) | self._of("item", [click.item])
        recent = click.before[-LENGTH:]
        return values | self._of("history", recent, ITEM[:2]) | {
            "item.index": ints([click.item]), "user.key": [f"u{click.user}".encode()], "history.index": ints(recent),
            "exclude.index": ints(sorted(set(click.before))),
        }  # fmt: skip

    def _item(self, index):
        item = self.world.items[index]
        return self._of("item", [index], lengths=False) | {
            "item.index": ints([index]), "item.count": ints([item["count"]]), "item.key": [item["key"].encode()],
            "item.title": [b"Film"],
        }  # fmt: skip

    def write(self, root, damage=None, gzipped=False):
        """The dataset on disk. damage: changes a shard's bytes (path, bytes) before the manifest counts them."""
        made: dict[str, list[Shard]] = {}
        for (split, number), records in self.records.items():
            for part in range(2):
                some = records[part::2] if split != "items" else records[part * 25 : part * 25 + 25]
                path = f"{split}/part-{number}-{part}.tfrecord{'.gz' if gzipped else ''}"
                data = framed([serialized(record) for record in some])
                data = gzip.compress(data) if gzipped else data
                data = damage(path, data) if damage else data
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                clicks = 0 if split == "items" else sum(len(record["click.time"]) for record in some)
                shard = Shard(path, len(data), google_crc32c.value(data), len(some), clicks, number)
                made.setdefault(split, []).append(shard)
        vocabulary = {}
        texts = {"user_id": range(USERS), "item_id": [item["key"] for item in self.world.items if item["count"]]}
        for name, values in {**texts, "genres": "abcde", "shop": "xyz"}.items():
            data = "".join(f"{value}\n" for value in ["[OOV]", *values]).encode()
            (root / "vocabulary").mkdir(exist_ok=True)
            (root / "vocabulary" / f"{name}.txt").write_bytes(data)
            vocabulary[name] = StoredFile(f"vocabulary/{name}.txt", len(data), google_crc32c.value(data))
        manifest = Manifest(
            record=self.spec,
            splits={name: Split.of(made[name], SETS if name == "train" else 1) for name in self.world.clicks},
            items=Split.of(made["items"]), vocabulary=vocabulary, files={}, seed=1, content_digest="d" * 64,
            config={
                "clicks": {"user": "user"}, "items": {"key": "id", **self.availability},
                "split": {"kind": "leave_last"},
                "negatives": {"exclude": "history", "per": self.spec.per, **self.more},
            },
            time_unit="seconds", proposal={"declared": self.declared}, rejected={"clicks.null_user": 3}, rows=self.rows,
            run="crafted",
        )  # fmt: skip
        (root / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
        return Dataset.open(root)


def serialized(values):
    example = example_class()()
    for key, value in values.items():
        entry = example.features.feature[key]
        if isinstance(value, list):
            entry.bytes_list.value.extend(value)
        elif value.dtype == np.float32:
            entry.float_list.value.extend(value.tolist())
        else:
            entry.int64_list.value.extend(value.tolist())
        if not len(value):  # a list that is there and empty
            getattr(entry, "float_list" if getattr(value, "dtype", None) == np.float32 else "int64_list").SetInParent()
    return example.SerializeToString(deterministic=True)


def framed(records):
    """Frames by Beam's own writer."""
    from apache_beam.io.tfrecordio import _TFRecordUtil

    stream = io.BytesIO()
    for record in records:
        _TFRecordUtil.write_record(stream, record)
    return stream.getvalue()
