"""report.html tells what is in the manifest and the shards, escapes it all, and needs nothing from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from pipelines import figures, report, words
from schemas.manifest import Dataset


class Page(HTMLParser):
    """Tags, their attributes and the visible text of a page; it complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self._open):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(params=["row", "block", "pool", "sequence"])
def dataset(request, small_dataset):
    return small_dataset(request.param)


def test_page_opens_without_a_network_and_without_scripts(dataset):
    page = Page(report.html(dataset))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in page.attributes}
    assert "url(" not in report.html(dataset)


def test_data_is_escaped_wherever_it_comes_from(dataset):
    text = report.html(dataset)
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text  # a title
    for name in ("u&lt;1&gt;", "Drama &amp; &lt;b&gt;", "null_user&lt;i&gt;", "&lt;b&gt;1998", "r&lt;1&gt;"):
        assert name in text  # vocabularies, reasons, configuration, run


def test_inputs_are_told_with_reasons(dataset):
    text = Page(report.html(dataset)).text
    assert "clicks unknown_item 3, null_user<i> 1 8 4 4" in text
    assert "2 clicked items had no row" in text
    assert "1 user had clicks but no row" in text


def test_sampled_clicks_show_names_and_log_q(small_dataset):
    text = Page(report.html(small_dataset("row"))).text
    assert "positive Amélie i1 Comedy, Drama & <b> ≥ 2000 [0.5, -1] 0.000" in text
    assert "history Amélie → Esc�[2J�ape" in text


def test_masked_candidates_are_marked(small_dataset):
    page = report.html(small_dataset("pool"))
    assert page.count('<tr class="masked">') == 1  # the one record that is shown holds one hit
    assert page.count('<tr class="positive">') == 2


def test_every_plot_is_there(dataset):
    page = Page(report.html(dataset))
    assert page.tags.count("svg") == 4
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "expected and observed" in str(labels[0])


def test_dataset_without_histories_or_draws_has_a_report(small_dataset):
    dataset = small_dataset("row")
    observed = {"draws": 0, "chi_square": 0.0, "degrees": 0, "p_value": 1.0, "kl": 0.0}
    manifest = dataclasses.replace(dataset.manifest, proposal={**dataset.manifest.proposal, "observed": observed})
    assert "Nothing was drawn" in Page(report.html(Dataset(dataset.root, manifest))).text


def test_a_broken_sampler_is_said_loudly(small_dataset):
    dataset = small_dataset("row")
    observed = {**dataset.manifest.proposal["observed"], "p_value": 1e-12}
    manifest = dataclasses.replace(dataset.manifest, proposal={**dataset.manifest.proposal, "observed": observed})
    text = Page(report.html(Dataset(dataset.root, manifest))).text
    assert "NOT as declared" in text
    assert "do NOT follow" in text


def test_written_as_a_whole_and_again(dataset):
    path = dataset.root / "report.html"
    assert report.write(dataset) == str(path)
    first = path.read_text(encoding="utf-8")
    report.write(dataset)
    assert path.read_text(encoding="utf-8") == first
    assert [p.name for p in dataset.root.iterdir() if p.name.startswith(".")] == []


def test_history_classes_end_at_the_longest_history():
    assert figures.history_labels([0, 1, 2, 5, 10, 20], 10) == ["0", "1", "2–4", "5–9", "10"]
    assert figures.history_labels([0, 1, 2, 5, 10, 20], 30) == ["0", "1", "2–4", "5–9", "10–19", "20–30"]


def test_words_for_the_fit():
    good = {"draws": 1000, "chi_square": 10.0, "degrees": 9, "p_value": 0.35, "kl": 0.005}
    follows, text = words.agreement(good)
    assert follows
    assert "35% of runs" in text
    assert not words.agreement({**good, "p_value": 1e-7})[0]
    assert "second seed" in words.agreement({**good, "p_value": 1e-4})[1]
