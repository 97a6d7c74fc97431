"""serving.json and version folders of a model."""

import json

import pytest

from schemas.errors import ConfigurationError
from schemas.model import SERVING, Serving, version_folder
from schemas.record import Field, RecordSpec

SPEC = RecordSpec(
    (Field("age", "buckets", "age", "scalar", 4, (18.0, 30.5)),), (Field("item_id", "vocabulary", "i", "scalar", 9),),
    ("item_id",), 5, "block", 32, 4, "click",
)  # fmt: skip


def test_what_a_model_takes_is_read_back(tmp_path):
    told = Serving(SPEC, matrix=True, user_key="user_id", exclude_history=False)
    told.write(tmp_path)
    assert Serving.read(tmp_path) == told


@pytest.mark.parametrize("change", [{"record": None}, {"more": 1}, {"record": {}}])
def test_what_cannot_be_understood_is_one_clear_error(tmp_path, change):
    with pytest.raises(ConfigurationError, match=r"serving\.json"):
        Serving.read(tmp_path)
    Serving(SPEC).write(tmp_path)
    document = json.loads((tmp_path / SERVING).read_text())
    (tmp_path / SERVING).write_text(json.dumps(document | change))
    with pytest.raises(ConfigurationError, match=r"serving\.json"):
        Serving.read(tmp_path)


def test_the_highest_number_is_the_version_and_numbers_are_no_texts(tmp_path):
    with pytest.raises(ConfigurationError, match="a folder with a number"):
        version_folder(tmp_path)
    for name in ("9", "10", "assets", ".11"):
        (tmp_path / name).mkdir()
    assert version_folder(tmp_path).name == "10"
