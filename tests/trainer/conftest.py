"""Datasets crafted with TensorFlow's own writer from clicks that are known one by one, in each layout.

The records are put together here by the words of schemas/README.md, not by the producer, so what the trainer makes of
them can be compared with the clicks themselves.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import json
from dataclasses import dataclass, field

import google_crc32c
import numpy as np
import pytest

from schemas.manifest import Dataset, Manifest, Shard, Split, StoredFile, escape
from schemas.record import Field, RecordSpec
from tests.trainer.models import VARIANTS

USERS, ITEMS, K, N, CLICKS, LENGTH, POSITIONS, WINDOW = 24, 40, 4, 12, 16, 5, 32, 8
GENRES = ("action", "comédie", "dra\\ma", "film\nnoir", "western")
AGES = (18.0, 30.0, 50.0)

USER_FIELDS = (
    Field("user_id", "vocabulary", "user_id", "scalar", USERS + 1),
    Field("age", "buckets", "age", "scalar", len(AGES) + 2, AGES),
    Field("interests", "vocabulary", "interests", "list", len(GENRES) + 1),
    Field("mood", "none", "mood", 2),
)
ITEM_FIELDS = (
    Field("item_id", "vocabulary", "item_id", "scalar", ITEMS + 1),
    Field("genres", "vocabulary", "genres", "list", len(GENRES) + 1),
    Field("content", "none", "content", 3),
    Field("price", "none", "price"),
)


@dataclass
class Click:
    """history: items, the oldest first. negatives: by epoch, K items. log_q: by epoch, 1 + K. allowed: of negatives."""

    user: int
    item: int
    history: list
    known: list
    negatives: list
    log_q: list
    allowed: float
    weight: float
    time: int


@dataclass
class Truth:
    """The small world: tastes follow genres, so there is something to learn."""

    seed: int = 0
    per_user: int = 14
    users: list = field(default_factory=list)
    items: list = field(default_factory=list)
    train: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    test: list = field(default_factory=list)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.item_log_q = rng.normal(-2, 1, ITEMS).astype(np.float32)
        for item in range(ITEMS):
            genres = [item % 5 + 1] + ([(item * 7) % 5 + 1] if item % 3 else [])
            self.items.append({
                "item_id": item + 1,
                "genres": genres if item % 9 else [],
                "content": rng.normal(size=3).astype(np.float32).tolist(),
                "price": float(np.float32(rng.lognormal(8, 3))),
            })  # fmt: skip
        for user in range(USERS):
            self.users.append({
                "user_id": user + 1,
                "age": user % (len(AGES) + 2),
                "interests": rng.permutation(5)[: user % 3].tolist(),
                "mood": rng.normal(size=2).astype(np.float32).tolist(),
            })  # fmt: skip
            taste = np.array([5.0 if item % 5 == user % 5 else 1.0 for item in range(ITEMS - 2)])
            had = rng.choice(ITEMS - 2, self.per_user, replace=False, p=taste / taste.sum()).tolist()
            for place, item in enumerate(had):
                others = [i for i in range(ITEMS) if i != item]
                negatives = [rng.choice(others, K).tolist() for _ in range(2)]
                allowed = float(np.float32(rng.uniform(-1, 0)))
                log_q = [
                    (self.item_log_q[[item, *chosen]] - allowed * (np.arange(1 + K) > 0)).tolist()
                    for chosen in negatives
                ]
                click = Click(
                    user, item, had[max(0, place - LENGTH) : place], sorted(had[:place]), negatives, log_q, allowed,
                    float(np.float32(rng.uniform(0.5, 1.5))), 1000 * user + place,
                )  # fmt: skip
                split = {len(had) - 1: self.test, len(had) - 2: self.validation}.get(place, self.train)
                split.append(click)
        order = rng.permutation(len(self.train))
        self.train = [self.train[i] for i in order]
        self.pools = [rng.integers(0, ITEMS, N).tolist() for _ in range(len(self.train))]
        self.count = np.bincount([click.item for click in self.train], minlength=ITEMS)


def example(values):
    """A serialized tf.train.Example."""
    import tensorflow as tf

    features = {}
    for key, value in values.items():
        flat = np.asarray(value).reshape(-1)
        if flat.dtype.kind in "SUO":
            features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=flat.tolist()))
        elif flat.dtype.kind == "f":
            features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=flat.tolist()))
        else:
            features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=flat.tolist()))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def ints(values):
    return np.asarray(values, np.int64)


def many(prefix, fields, rows, lengths=True):
    """Features of several entities: values behind each other, and a length an entity for lists."""
    values = {}
    for each in fields:
        column = [row[each.name] for row in rows]
        if each.shape == "list":
            values[f"{prefix}.{each.name}"] = ints([value for row in column for value in row])
            if lengths:
                values[f"{prefix}.{each.name}.lengths"] = ints([len(row) for row in column])
        else:
            values[f"{prefix}.{each.name}"] = np.asarray(column, np.float64 if each.encode == "none" else np.int64)
    return values


def query(truth, click, spec):
    return many("user", spec.user, [truth.users[click.user]], lengths=False) | many(
        "history", spec.history_fields, [truth.items[i] for i in click.history]
    )


def row_record(truth, click, epoch, spec, mask=None):
    chosen = [click.item, *click.negatives[epoch]]
    values = query(truth, click, spec) | many("item", spec.item, [truth.items[i] for i in chosen])
    values |= {"item.index": chosen, "item.log_q": np.asarray(click.log_q[epoch]), "click.time": click.time}
    values |= {"click.weight": float(click.weight)} | ({"item.mask": mask} if spec.mask else {})
    return example(values)


def block_record(truth, clicks, epoch, spec, pool, masks=None):
    chosen = [[click.item, *click.negatives[epoch]] for click in clicks]
    positives = [click.item for click in clicks]
    used = [*positives, *pool] if spec.per == "block" else [i for row in chosen for i in row]
    table = sorted(set(used), key=lambda i: (i * 17) % ITEMS)
    slot = {item: place for place, item in enumerate(table)}
    known = sorted({i for click in clicks for i in click.history}, key=lambda i: (i * 13) % ITEMS)
    values = many("user", spec.user, [truth.users[click.user] for click in clicks])
    if spec.history:
        values["history.lengths"] = [len(click.history) for click in clicks]
        values["history.index"] = ints(known)
        values["block.history"] = ints([known.index(i) for click in clicks for i in click.history])
    values |= many("history", spec.history_fields, [truth.items[i] for i in known])
    values |= many("item", spec.item, [truth.items[i] for i in table]) | {"item.log_q": truth.item_log_q[table]}
    values |= {"item.index": table, "block.positive": [slot[i] for i in positives]}
    if spec.per == "click":
        values["block.negatives"] = [slot[i] for row in chosen for i in row[1:]]
        if spec.log_q == "candidate":
            del values["item.log_q"]
            values["block.log_q"] = np.concatenate([np.asarray(click.log_q[epoch]) for click in clicks])
        else:
            values["block.log_allowed"] = np.asarray([click.allowed for click in clicks])
        if spec.mask:
            values["block.mask"] = np.concatenate(masks)
    else:
        values["block.negatives"] = [slot[i] for i in pool]
        hits = [
            (c, p) for c, click in enumerate(clicks) for p, i in enumerate(pool) if i in click.known or i == click.item
        ]
        values |= {"block.hit_click": ints([c for c, _ in hits]), "block.hit_pool": ints([p for _, p in hits])}
    values |= {"click.time": [click.time for click in clicks]}
    values |= {"click.weight": np.asarray([click.weight for click in clicks])}
    return example(values)


def sequence_record(truth, windows, spec, pool):
    """The record of windows, each the clicks of one user in order."""
    clicks = [click for window in windows for click in window]
    table = sorted({click.item for click in clicks} | set(pool), key=lambda i: (i * 17) % ITEMS)
    slot = {item: place for place, item in enumerate(table)}
    values = many("user", spec.user, [truth.users[window[0].user] for window in windows])
    values |= many("item", spec.item, [truth.items[i] for i in table]) | {"item.log_q": truth.item_log_q[table]}
    values |= {"item.index": table, "sequence.lengths": ints([len(window) for window in windows])}
    values |= {"sequence.item": [slot[click.item] for click in clicks], "block.negatives": [slot[i] for i in pool]}
    runs, start = [], 0
    for window in windows:
        for place, item in enumerate(pool):
            struck = [n for n, click in enumerate(window) if item in click.known or item == click.item]
            runs += [(start + struck[0], place, len(window) - struck[0])] if struck else []
        start += len(window)
    values |= {
        f"block.hit_{name}": ints([run[n] for run in runs]) for n, name in enumerate(("click", "pool", "length"))
    }
    values |= {"click.time": [click.time for click in clicks]}
    values |= {"click.weight": np.asarray([click.weight for click in clicks])}
    return example(values)


def windows_of(truth, part):
    """Windows of some users' training clicks in order: a first one of 3 clicks, then of at most WINDOW."""
    found = []
    for user in range(part, USERS, 2):
        clicks = sorted((click for click in truth.train if click.user == user), key=lambda click: click.time)
        found += [clicks[:3], *(clicks[i : i + WINDOW] for i in range(3, len(clicks), WINDOW))]
    return found


def held_out_record(truth, click, spec):
    values = query(truth, click, spec) | many("item", spec.item, [truth.items[click.item]])
    values |= {"item.index": [click.item], "click.time": click.time, "click.weight": 1.0}
    values |= {"user.key": np.array([f"u{click.user}".encode()], object), "history.index": ints(click.history)}
    return example(values | {"exclude.index": ints(click.known)})


def masks_of(truth):
    """A mask for each click: its last negative is real only for every other click."""
    return [[1] * K + [number % 2] for number in range(len(truth.train))]


def craft(
    root, truth=None, layout="row", per="click", mask=False, user=USER_FIELDS, item=ITEM_FIELDS,
    history=("item_id", "genres", "content"), splits=("validation", "test"), compression="", title="Film",
    log_q="item",
):  # fmt: skip
    """The dataset of these clicks on disk."""
    import tensorflow as tf

    truth = truth or Truth()
    shared = per == "block"
    clicks = {"row": 1, "block": CLICKS, "sequence": POSITIONS}[layout]
    window = WINDOW if layout == "sequence" else 0
    spec = RecordSpec(
        user, item, history, LENGTH, layout, clicks, N if shared else K, per, mask, window, "order", log_q
    )
    masks = masks_of(truth)

    def shard(path, records, clicks, epoch=0):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(file), compression) as writer:
            for record in records:
                writer.write(record)
        data = file.read_bytes()
        return Shard(path, len(data), google_crc32c.value(data), len(records), clicks, epoch)

    suffix = ".tfrecord.gz" if compression else ".tfrecord"
    train = []
    for epoch in range(2):
        for part in range(2):
            numbers = range(part, len(truth.train), 2)
            if layout == "sequence":
                windows = windows_of(truth, part)
                each = POSITIONS // WINDOW
                records = [
                    sequence_record(truth, windows[i : i + each], spec, truth.pools[i])
                    for i in range(0, len(windows), each)
                ]
            elif layout == "row":
                records = [row_record(truth, truth.train[n], epoch, spec, masks[n]) for n in numbers]
            else:
                chunks = [list(numbers[i : i + CLICKS]) for i in range(0, len(numbers), CLICKS)]
                records = [
                    block_record(
                        truth, [truth.train[n] for n in chunk], epoch, spec,
                        truth.pools[chunk[0]], [masks[n] for n in chunk],
                    )
                    for chunk in chunks
                ]  # fmt: skip
            size = sum(map(len, windows)) if layout == "sequence" else len(numbers)
            train.append(shard(f"train/part-{epoch}-{part}{suffix}", records, size, epoch))
    held = {}
    for name in splits:
        clicks = getattr(truth, name)
        records = [held_out_record(truth, click, spec) for click in clicks]
        held[name] = Split.of([shard(f"{name}/part-0{suffix}", records, len(clicks))])
    items = [
        example(
            many("item", item, [truth.items[i]], lengths=False)
            | {"item.index": i, "item.count": int(truth.count[i]), "item.key": np.array([f"i{i}".encode()], object)}
            | {"item.title": np.array([f"{title} {i}".encode()], object)}
        )
        for i in np.random.default_rng(3).permutation(ITEMS)
    ]
    vocabulary = {}
    texts = {
        "user_id": [f"u{i}" for i in range(USERS)], "item_id": [f"i{i}" for i in range(ITEMS)],
        "interests": GENRES, "genres": GENRES,
    }  # fmt: skip
    for each in (*user, *item):
        if each.encode == "vocabulary":
            path = root / "vocabulary" / f"{each.name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = "".join(f"{line}\n" for line in ["[OOV]", *map(escape, texts[each.name])]).encode()
            path.write_bytes(data)
            vocabulary[each.name] = StoredFile(f"vocabulary/{each.name}.txt", len(data), google_crc32c.value(data))
    manifest = Manifest(
        record=spec, splits={"train": Split.of(train, 2), **held}, vocabulary=vocabulary, files={},
        config={"clicks": {"user": "user_id"}}, seed=1,
        items=Split.of([shard(f"items/part-0{suffix}", items, 0)]),
        content_digest=f"crafted {truth.seed} {layout} {per}",
        time_unit="seconds",
    )  # fmt: skip
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return Dataset.open(root)


@pytest.fixture(scope="session")
def truth():
    return Truth()


@pytest.fixture(scope="session")
def crafted(tmp_path_factory, truth):
    """Makes (or finds again) the crafted dataset of some options."""
    made = {}

    def dataset(**options):
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = craft(tmp_path_factory.mktemp("crafted"), truth, **options)
        return made[key]

    return dataset


@pytest.fixture(scope="session")
def crafting():
    return craft


@pytest.fixture(scope="session")
def real_masks(truth):
    return masks_of(truth)


SMALL = {"model.dimension": 8, "model.user.hidden": [8], "model.user.heads": 2, "epochs": 2, "batch": 32, "jit": False}


def settings_of(options):
    """SMALL and `a__b=value` options as `a.b=value` of a command line."""
    settings = SMALL | {name.replace("__", "."): value for name, value in options.items()}
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


@contextlib.contextmanager
def everything_told(path):
    """Lets stdout and stderr of this process, its libraries and its children go to a file, by the descriptors."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with path.open("a+", encoding="utf-8", buffering=1) as file:
        try:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield path
        finally:
            for number, saved in kept:
                os.dup2(saved, number)
                os.close(saved)


@pytest.fixture(scope="session")
def configured():
    """The configuration of a small, uncompiled run, with `a.b=value` options on top."""
    from schemas import configuration
    from trainer.config import Configuration

    def config(**options):
        return configuration.load(Configuration, None, settings_of(options))

    return config


@pytest.fixture(scope="session")
def trained_as(crafted, configured, tmp_path_factory):
    """Makes (or finds again) a whole `train` of a variant by the command line: folder, and what it told."""
    from trainer.__main__ import commands

    made = {}

    def train(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            arguments = ["train", "--data", str(crafted(layout="block").root), "--output", str(folder), "--log", "json"]
            settings = [f"--set={setting}" for setting in settings_of(VARIANTS[name])]
            with everything_told(folder.with_suffix(".told")) as told:
                commands.main([*arguments, *settings], standalone_mode=False)
            made[name] = folder, told
        return made[name]

    return train


@pytest.fixture(scope="session")
def loaded(trained_as):
    """The served towers of a variant by side."""
    import tensorflow as tf

    made = {}

    def load(name):
        if name not in made:
            folder, _ = trained_as(name)
            sides = {side: tf.saved_model.load(str(folder / f"{side}_tower" / "1")) for side in ("user", "item")}
            # Kept beside their signatures: those do not keep the variables alive.
            made[name] = {side: saved.signatures["serving_default"] for side, saved in sides.items()}, sides
        return made[name][0]

    return load
