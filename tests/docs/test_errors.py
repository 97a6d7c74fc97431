"""ERRORS.md has an entry for everything that our code tells a person, under its exit code, and none for what it does not.

An entry is how a text begins, to the letter. So a new message, a reworded one, or one with another exit code fails here
until the page has it.
"""

import re
from collections import Counter

import pytest

from pipelines.auditing.findings import CHECKS
from tests.docs.raised import GAP, ROOT, told

PAGE = (ROOT / "ERRORS.md").read_text(encoding="utf-8")
# Texts that only pass on what was found elsewhere: put in front of it is where it was.
PASSED_ON = {"schemas/configuration.py": 3, "schemas/manifest.py": 1, "pipelines/config.py": 1, "trainer/variants.py": 1}


def words(text):
    return re.findall(r"\w+", text.replace(GAP, " "))


def entries(page):
    """(exit code, beginning of a text) of each entry in the page's tables of lines."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        code = re.match(r"Exit code (\d)", section)
        for row in re.findall(r"^\| (`.+?) \| ", section, re.MULTILINE) if code else ():
            for _, text in re.findall(r"(`+)(.+?)\1", row):
                yield int(code[1]), text


def lacking(texts, page):
    """Texts of the code without an entry, and entries without a text."""
    known = list(entries(page))
    without = [one for one in texts if not any(one.code == code and one.text.startswith(text) for code, text in known)]
    dead = [text for code, text in known if not any(one.code == code and one.text.startswith(text) for one in texts)]
    return without, dead


@pytest.fixture(scope="module")
def texts():
    return told()


def test_everything_that_is_told_has_an_entry_and_every_entry_is_told(texts):
    without, dead = lacking([one for one in texts if words(one.text)], PAGE)
    assert not without, "no entry in ERRORS.md, under its exit code: " + "\n".join(map(str, without))
    assert not dead, f"ERRORS.md explains what nothing says with this exit code: {dead}"


def test_no_text_is_made_where_the_search_cannot_read_it(texts):
    assert Counter(one.where.split(":")[0] for one in texts if not words(one.text)) == PASSED_ON
    assert len(texts) > 300


def test_entries_say_enough_to_be_told_apart():
    twice = [entry for entry, count in Counter(entries(PAGE)).items() if count > 1]
    short = [text for _, text in entries(PAGE) if len("".join(words(text))) < 6]
    assert twice == []
    assert short == []
