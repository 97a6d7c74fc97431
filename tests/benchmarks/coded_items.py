"""The item table with every text as a code, and the vocabularies that say what the codes mean.

What the two usual jobs do before they begin, with pandas on the driver, as a user would: a tower wants whole numbers.
Codes are numbered as values come, which costs nothing; the product numbers them by training frequency.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

UNKNOWN = "[OOV]"  # code 0


@dataclass(frozen=True)
class CodedItems:
    """table: item_id, and code, category, brand, price, tags as numbers. probability: [items] of being drawn."""

    table: pd.DataFrame
    probability: npt.NDArray[np.float64]


def coded_items(items: pd.DataFrame, clicks: pd.DataFrame, vocabulary: Path) -> CodedItems:
    """Codes of all items, drawn by clicks to the power 0.75; vocabulary/<feature>.txt is written.

    clicks: `item_id` and how often each was clicked, `clicks`.
    """
    vocabulary.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"item_id": items["item_id"], "price": items["price"].astype("float64")})
    for feature, values in (("item_id", items["item_id"]), ("category", items["category"]), ("brand", items["brand"])):
        codes, names = pd.factorize(values)
        table["code" if feature == "item_id" else feature] = codes + 1
        _write(vocabulary / f"{feature}.txt", names)
    flat = items["tags"].explode()
    codes, names = pd.factorize(flat)
    bounds = np.cumsum(items["tags"].map(len).to_numpy())[:-1]
    table["tags"] = [part.tolist() for part in np.split(codes + 1, bounds)]
    _write(vocabulary / "tags.txt", names)
    counts = table[["item_id"]].merge(clicks, "left", "item_id")["clicks"].fillna(0).to_numpy()
    weight = counts**0.75
    return CodedItems(table, weight / weight.sum())


def _write(path: Path, names: pd.Index) -> None:
    path.write_text("".join(f"{name}\n" for name in [UNKNOWN, *names]), encoding="utf-8")
