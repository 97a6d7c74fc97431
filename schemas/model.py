"""What a trained model's folder holds, and what its towers take: the contract of who writes and who serves it.

The trainer writes such a folder; `pipelines.embed`, `index`, `recommend` and `publish` read it, and so does whatever
serves it. Reading it needs neither TensorFlow nor the dataset.

    user_tower/<n>/  item_tower/<n>/   SavedModels, signature serving_default; n is 1 until `publish` numbers it
    serving.json                       what the towers take (`Serving`)
    item_embeddings.parquet            item_id, embedding: the vectors of the catalogue trained on, by item_index
    items.parquet                      item_id, title, features: what a history needs to know of each of these items
    users.parquet                      user, features, history, seen, embedding: some held-out users, for `recommend`
    index/                             what `python -m trainer index` built
    metrics.json  config.yaml  report.html  checkpoints/  logs/
"""

import json
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError
from schemas.files import write_atomically
from schemas.manifest import Manifest
from schemas.record import RecordSpec

USER_TOWER, ITEM_TOWER = "user_tower", "item_tower"
EMBEDDINGS, ITEMS, USERS, SERVING = "item_embeddings.parquet", "items.parquet", "users.parquet", "serving.json"
INDEX, METRICS, CONFIG = "index", "metrics.json", "config.yaml"
FIRST_VERSION = "1"  # TensorFlow Serving looks for numbered folders
ITEM_ID = "item_id"  # the one input of an item tower that is a matrix; a feature of any name may hold the same


@dataclass(frozen=True)
class Serving:
    """What an exported model takes.

    record: features by name, with their boundaries, and how long a history is. matrix: items are rows of a matrix, told
    by `ITEM_ID` alone. user_key: the user feature that holds the user's id, None where none does. exclude_history:
    whether what a user had is left out of what is recommended.
    """

    record: RecordSpec
    matrix: bool = False
    user_key: str | None = None
    exclude_history: bool = True

    def write(self, folder: Path) -> None:
        """Puts serving.json into a model's folder."""
        document = {**vars(self), "record": self.record.to_json()}
        write_atomically(folder / SERVING, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> "Serving":
        """The one in a model's folder.

        Raises:
          ConfigurationError: there is none, or one that cannot be understood.
        """
        try:
            document = json.loads((folder / SERVING).read_text(encoding="utf-8"))
            return cls(**{**document, "record": RecordSpec.from_json(document["record"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"--model {folder}: expected a model's folder with {SERVING} ({_why(error)}); "
                "write one with python -m trainer train"
            ) from error


def user_key(manifest: Manifest) -> str | None:
    """The user feature that is a vocabulary of the column that names the clicks' users, None where none is."""
    column = manifest.config.get("clicks", {}).get("user")
    for field in manifest.record.user:
        if field.encode == "vocabulary" and field.shape == "scalar" and field.column == column:
            return field.name
    return None


def version_folder(tower: Path) -> Path:
    """The folder with the highest number in a tower's: the one that TensorFlow Serving would serve.

    Raises:
      ConfigurationError: there is none.
    """
    numbers = [path for path in tower.iterdir() if path.name.isdecimal()] if tower.is_dir() else []
    if not numbers:
        raise ConfigurationError(
            f"{tower}: expected a SavedModel in a folder with a number for its name; write one with "
            "python -m trainer train"
        )
    return max(numbers, key=lambda path: int(path.name))


def _why(error: Exception) -> str:
    return error.strerror or "" if isinstance(error, OSError) else repr(error)
