"""What both encoders of the benchmark are given: a shop's items and clicks, the same for each.

100,000 items of about 114 bytes as text (id, category, brand, price, 5 to 10 tags), clicked as in shops: a few of them
often, most of them rarely. No Spark: the catalogue, the vocabularies and the plan are made by the job's own functions.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import catalogue, encoding
from pipelines.assembly import plan_for
from pipelines.config import Config, record_spec
from pipelines.mapped import MappedCatalogue, with_proposal
from pipelines.plan import Plan
from pipelines.publication import Publication
from samplers import rng
from schemas.features import Vocabulary

Ints = npt.NDArray[np.int64]

SEED = 20261126
FEATURES: dict[str, Any] = {
    "user": {"user": {"encode": "vocabulary"}},
    "item": {
        "item_id": {"encode": "vocabulary"},
        "category": {"encode": "vocabulary"},
        "brand": {"encode": "vocabulary"},
        "price": {"encode": "none"},
        "tags": {"encode": "vocabulary", "shape": "list"},
    },
}


@dataclass(frozen=True)
class Shop:
    """items: a table in the order of `number`. user, item, time: [clicks], sorted by user and time."""

    items: pa.Table
    user: Ints
    item: Ints
    time: Ints

    def first(self, clicks: int) -> "Shop":
        """The same items and so many of the clicks: what one task of many is given."""
        return Shop(self.items, self.user[:clicks], self.item[:clicks], self.time[:clicks])


def shop(clicks: int = 1_000_000, items: int = 100_000, seed: int = SEED) -> Shop:
    """A shop with so many clicks of a tenth as many users."""
    random = np.random.default_rng(seed)
    number = np.arange(items)
    sizes = random.integers(5, 11, items)
    tags = [f"tag-{tag:04d}" for tag in (2_000 * random.random(int(sizes.sum())) ** 2).astype(int)]
    table = pa.table({
        "item_id": [f"item-{one:07d}" for one in number],
        "category": [f"category-{one:03d}" for one in (400 * random.random(items) ** 2).astype(int)],
        "brand": [f"brand-{one:04d}" for one in (5_000 * random.random(items) ** 2).astype(int)],
        "price": np.round(random.lognormal(3, 1, items), 2),
        "tags": pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(sizes)), pa.int32()), pa.array(tags)),
    })  # fmt: skip
    users = max(1, clicks // 10)
    user = np.sort(random.integers(0, users, clicks))
    item = random.permutation(items)[np.minimum((items ** random.random(clicks)).astype(int), items - 1)]
    time = 1_700_000_000 + random.integers(0, 30_000_000, clicks)
    order = np.lexsort((time, user))
    return Shop(table, user, item[order], time[order])


def configuration(folder: Path, layout: str, negatives: int) -> Config:
    """A job of a shop whose negatives follow popularity^.75 and are never the click's own item."""
    return Config.model_validate({
        "clicks": {"path": "clicks", "user": "user", "item": "item", "time": "time"},
        "items": {"path": "items", "key": "item_id"},
        "features": FEATURES,
        "negatives": {
            "proposal": {"popularity": {"exponent": 0.75}}, "count": negatives, "exclude": "positive", "seed": 7,
        },
        "layout": {"kind": layout},
        "output": {"path": str(folder), "shards": 1},
    })  # fmt: skip


def prepared(shop: Shop, publication: Publication, negatives: int) -> tuple[dict[str, Plan], dict[str, list[str]]]:
    """(plans of tasks by layout, with the files that they share in the work folder of `publication`; vocabularies)."""
    job_file = configuration(publication.root, "row", negatives)
    keyed = shop.items.append_column("key", shop.items["item_id"]).append_column("title", shop.items["item_id"])
    checked = catalogue.checked_items(keyed, job_file.features, "items")
    counts = np.bincount(shop.item, minlength=shop.items.num_rows)
    counted, vocabularies = catalogue.build(checked, counts, job_file.features)
    user = job_file.features.user["user"]
    assert isinstance(user, Vocabulary)
    users = encoding.vocabulary(
        user,
        pa.table({"value": shop.user.astype(str), "weight": np.ones(len(shop.user), np.int64)})
        .group_by("value")
        .aggregate([("weight", "sum")])
        .rename_columns(["value", "weight"]),
    )
    fields = (encoding.resolved("user", user, len(users), None),)
    built = MappedCatalogue(with_proposal(counted, job_file), vocabularies, {})
    plan = plan_for(job_file, publication, built, fields, {"user": users}, "seconds")
    vocabularies["user"] = users
    blocks = record_spec(configuration(publication.root, "block", negatives), plan.record.user, plan.item_fields)
    path = publication.work / "boundaries-0.npy"
    np.save(path, np.sort(plan.order(click_keys(shop), 0))[blocks.clicks :: blocks.clicks])
    block_plan = dataclasses.replace(plan, record=blocks, boundaries=(str(path),))
    return {"row": plan, "block": block_plan}, vocabularies


def click_keys(shop: Shop) -> rng.Keys:
    """[clicks] what tells each click; all are different here."""
    return rng.keyed(shop.user, shop.item, shop.time, np.arange(len(shop.user)))


def batches(shop: Shop, rows: int = 20_000) -> list[pa.RecordBatch]:
    """The clicks as Spark hands them to a task, sorted by user and time."""
    count = len(shop.user)
    users = pa.array(shop.user.astype(str))
    return pa.table({
        "user": users, "time": shop.time, "weight": np.ones(count, np.float32),
        "click_key": click_keys(shop).view(np.int64), "split": np.zeros(count, np.int32),
        "number": shop.item.astype(np.int32), "feature_user": users,
    }).to_batches(rows)  # fmt: skip
