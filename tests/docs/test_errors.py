"""schemas/ERRORS.md has an entry for all that our code tells a person, under its exit code, and none for anything else.

An entry is how a text begins, to the letter. So a new message, a reworded one, or one with another exit code fails here
until the page has it.
"""

import ast
import re
from collections import Counter

import pytest

from pipelines.auditing.findings import CHECKS
from tests.docs.raised import GAP, ROOT, Told, of_module, told

PAGE = (ROOT / "schemas" / "ERRORS.md").read_text(encoding="utf-8")
# Texts that only pass on what was found elsewhere: put in front of it is where it was.
PASSED_ON = {
    "schemas/configuration.py": 3,
    "schemas/manifest.py": 1,
    "pipelines/config.py": 1,
    "trainer/variants.py": 1,
}


def words(text):
    return re.findall(r"\w+", text.replace(GAP, " "))


def entries(page):
    """(exit code, beginning of a text) of each entry in the page's tables of lines."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        code = re.match(r"Exit code (\d)", section)
        if code is None:
            continue
        for row in re.findall(r"^\| (`.+?) \| ", section, re.MULTILINE):
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
    assert not without, "no entry in schemas/ERRORS.md, under its exit code: " + "\n".join(map(str, without))
    assert not dead, f"schemas/ERRORS.md explains what nothing says with this exit code: {dead}"


def test_no_text_is_made_where_the_search_cannot_read_it(texts):
    assert Counter(one.where.split(":")[0] for one in texts if not words(one.text)) == PASSED_ON
    assert len(texts) > 300


def test_an_entry_is_needed_used_and_under_its_exit_code(texts):
    """What the search is worth: a new message, a reworded one, and one that moved to another exit code are found."""
    new = Told("the moon is full; wait a week", 3, "pipelines/moon.py:1")
    page = "\n## Exit code 3: input data\n\n| line | what to do |\n|---|---|\n| `the moon is … full` | wait |\n"
    assert lacking([new], PAGE)[0] == [new]
    assert lacking([new], page) == ([new], ["the moon is … full"])
    assert lacking([new], page.replace("… ", "")) == ([], [])
    assert lacking([new], page.replace("… ", "").replace("code 3", "code 2")) == ([new], ["the moon is full"])


def test_the_search_reads_what_a_line_may_say():
    source = """
def act(name, problems):
    where = f"{name}: expected a moon"
    if name:
        raise DataError(where + ("; wait" if name else ", got " + str(name)))
    problems.append(f"{name}.phase: no such phase")
    return OutputError(f"{where} by {name!r}")
"""
    found = [(one.text, one.code) for one in of_module("pipelines/config.py", ast.parse(source))]
    assert sorted(found) == [
        ("….phase: no such phase", 2), ("…: expected a moon by …", 4), ("…: expected a moon, got …", 3),
        ("…: expected a moon; wait", 3),
    ]  # fmt: skip


def test_every_reason_of_rejected_rows_is_explained():
    files = ("inputs", "users", "catalogue", "available", "encoding")
    source = "".join((ROOT / f"pipelines/{name}.py").read_text(encoding="utf-8") for name in files)
    given = set(re.findall(r'"((?:null|bad|unknown|duplicate|wrong|non)_[a-z{}]+:?)(?:"|\{)', source))
    assert "bad_{name}" in given
    told_of = given - {"bad_{name}"} | {"bad_available_from", "bad_available_to"}
    assert set(cells("Rows that were rejected")) == told_of
    assert len(told_of) == 14


def test_every_check_of_an_audit_is_explained():
    assert sorted(cells("An audit's findings")) == sorted(CHECKS)


def cells(heading):
    """Code of the first column of a section's table."""
    (section,) = (one for one in re.split(r"^## ", PAGE, flags=re.MULTILINE) if one.startswith(heading))
    return [
        span for row in re.findall(r"^\| (`.+?) \| ", section, re.MULTILINE) for span in re.findall(r"`(.+?)`", row)
    ]


def test_entries_say_enough_to_be_told_apart():
    twice = [entry for entry, count in Counter(entries(PAGE)).items() if count > 1]
    short = [text for _, text in entries(PAGE) if len("".join(words(text))) < 4]
    assert twice == []
    assert short == []
