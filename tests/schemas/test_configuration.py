"""Configuration: every problem at once, the nearest known key, overrides that act."""

from pathlib import Path

import pytest

from pipelines.config import Config
from pipelines.config_rules import mapped_alone
from pipelines.days import for_date
from schemas.configuration import load
from schemas.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "pipelines" / "examples"
ML = EXAMPLES / "ml-100k.yaml"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid(path):
    assert load(Config, path).features.item


def mixed(*parts, wide="{popularity: {}, share: 0.5}"):
    """An override that mixes some parts with a catalogue-wide strategy."""
    return f"negatives.proposal={{mixture: [{', '.join([wide, *parts])}]}}"


GROUPS = "{same_attribute: {feature: release_year}, share: 0.5}"
SHOWN = "{path: shown.parquet, user: user_id, item: item_id, time: timestamp}"
STRATEGIES = [
    ([mixed(GROUPS), "negatives.per=block"], "what same_attribute draw depends on the click, but here clicks share"),
    (
        ["negatives.proposal={same_attribute: {feature: release_year}}"],
        "same_attribute cannot fill every click's slots",
    ),
    ([mixed("{same_attribute: {feature: colour}, share: 0.5}")], "'colour' is no item feature; known: item_id, genres"),
    (
        [mixed("{same_attribute: {feature: genres}, share: 0.5}")],
        "'genres' makes no groups; it needs one value an item",
    ),
    ([mixed("{same_attribute: {}, share: 0.5}")], "mixture.1.same_attribute.feature: required, but missing"),
    ([mixed("{same_attribut: {}, share: 0.5}")], "unknown key; did you mean 'same_attribute'?"),
    ([mixed("{column: {}, share: 0.25}", "{column: {}, share: 0.25}")], "column is listed twice"),
    ([mixed("{impressions: {window: 30}, share: 0.5}")], "a span of time such as 30m"),
    ([mixed("{same_attribute: {feature: release_year, least: 0}, share: 0.5}")], "least"),
    (
        [mixed(GROUPS, wide="{uniform: {}, share: 0.5}"), "negatives.unique=true"],
        "cannot be drawn with negatives.unique",
    ),
    (
        [mixed("{same_attribute: {feature: release_year}, share: 0.02}", wide="{uniform: {}, share: 0.98}")],
        "same_attribute gets none of negatives.count: 20 slots; raise the count or its share",
    ),
    ([mixed(GROUPS), "negatives.count=1"], "same_attribute gets none of negatives.count: 1 slots"),
    (
        ["negatives.proposal={in_batch: {}}", "layout={kind: row}"],
        "in_batch draws from the other clicks of a block; set",
    ),
    (["negatives.proposal={in_batch: {}}", "negatives.per=block"], "set layout.kind: block and negatives.per: click"),
    ([mixed(GROUPS, wide="{in_batch: {}, share: 0.5}")], "whose log_q beside same_attribute would not be known"),
]


def test_slots_are_shared_out_before_anything_runs():
    overrides = [mixed(GROUPS.replace("0.5", "0.2"), "{log_uniform: {}, share: 0.3}")]
    proposal = load(Config, ML, overrides).negatives.proposal
    assert proposal.slots(20) == [16, 4]
    assert [name for name, _, _ in proposal.catalogue_wide] == ["popularity", "log_uniform"]
    assert proposal.click_dependent == [
        ("same_attribute", 0.2, {"feature": "release_year", "exponent": 0.75, "least": 5})
    ]


def test_every_problem_is_reported_in_one_message():
    overrides = [
        "negatives.cuont=3",
        "features.item.genres.shap=list",
        "layout.kind=blok",
        "items.key=null",
        "output.shards=0",
    ]
    with pytest.raises(ConfigurationError) as error:
        load(Config, ML, overrides)
    text = str(error.value)
    assert "5 problems" in text
    assert "negatives.cuont: unknown key; did you mean 'count'?" in text
    assert "did you mean 'shape'?" in text
    assert "layout.kind: unknown 'blok'; did you mean 'block'?" in text
    for name in ("items.key", "output.shards"):
        assert f"  {name}: " in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["negatives.proposal={popularity: {}, uniform: {}}"], "exactly one strategy"),
        (["negatives.proposal={}"], "exactly one strategy"),
        (["negatives.proposal.mixture.0.share=0.5"], "shares must sum to 1"),
        (["negatives.proposal={popularity: {exponent: -1}}"], "exponent"),
        (["history.features=[colour]"], "'colour' is no item feature; known: item_id, genres, release_year"),
        (["negatives.per=block", "layout={kind: row}"], "needs layout.kind: block or sequence"),
        (["layout={kind: sequence}", "negatives.per=click"], "negatives.per: a sequence's clicks share one pool"),
        (["negatives.unique=tensorflow", "negatives.per=click"], "negatives.unique: tensorflow draws a shared pool"),
        (
            ["negatives.per=block", "layout={kind: sequence, positions: 100, window: 101}"],
            "layout.window: 101 clicks do not fit into a record of layout.positions: 100",
        ),
        (
            ["negatives.per=block", "layout={kind: sequence, clicks: 100}"],
            "layout.clicks: unknown key; known: kind, positions",
        ),
        (["negatives.per=block", "negatives.shortage=mask"], "shortage"),
        (["features.item.title={encode: vocabulary}"], "reserved name"),
        *((overrides, said) for overrides, said in STRATEGIES),
        (["features.user.genres={encode: vocabulary}"], "names a user and an item feature"),
        (["features.item.release_year={encode: buckets}"], "either boundaries"),
        (["features.item.release_year={encode: buckets, boundaries: [3, 2]}"], "rise strictly"),
        (["features.item.x={encode: none, shape: [0]}"], "at least one number"),
        (["users=null"], "need users: {path, key}"),
        (["split={kind: time}"], "test_from: required"),
        (["split={kind: time, test_from: 1998-01-01, validation_from: 1998-02-01}"], "validation_from"),
        (["negatives.seed=.nan"], "negatives.seed"),
        (["nonsense"], "expects a.b=value"),
        (["negatives.proposal.mixture.7.share=1"], "position below 2"),
    ],
)
def test_what_cannot_work_is_said(overrides, said):
    with pytest.raises(ConfigurationError) as error:
        load(Config, ML, overrides)
    assert said in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("overrides", "option"),
    [
        (["layout={kind: sequence}", "negatives.per=block"], "layout.kind: sequence"),
        (["negatives.per=block"], "negatives.per: block"),
        (["negatives.unique=true", "negatives.per=click"], "negatives.unique: true"),
        ([mixed("{in_batch: {}, share: 0.5}")], "negatives.proposal: in_batch"),
        ([mixed(GROUPS)], "negatives.proposal: same_attribute"),
        ([mixed("{impressions: {}, share: 0.5}"), f"impressions={SHOWN}"], "negatives.proposal: impressions"),
        ([mixed("{column: {}, share: 0.5}"), "clicks.negatives=left"], "negatives.proposal: column"),
        ([mixed("{mined: {path: m}, share: 0.5}")], "negatives.proposal: mined"),
        (["negatives.exclude=[listed, history]", "clicks.exclude=seen"], "negatives.exclude: listed"),
        (["frequencies.half_life=7d"], "frequencies"),
        (["items.available_from=since"], "items.available_from and available_to"),
    ],
)
def test_what_a_partitioned_catalogue_does_not_serve_is_refused_in_one_line_and_served_by_others(overrides, option):
    with pytest.raises(ConfigurationError) as error:
        load(Config, ML, [*overrides, "catalogue.kind=partitioned"])
    advice = "leave that out, or set catalogue.kind: mapped"
    assert f"catalogue.kind: partitioned does not serve {option}; {advice}" in str(error.value)
    assert error.value.exit_code == 2
    for other in ("mapped", "auto"):
        assert option in mapped_alone(load(Config, ML, [*overrides, f"catalogue.kind={other}"]))


def test_a_partitioned_catalogue_serves_the_rest():
    overrides = [
        mixed("{log_uniform: {}, share: 0.5}"), "negatives.exclude=[history, user]", "negatives.shortage=mask",
        "layout={kind: row}", "examples.per_user=3", "catalogue.kind=partitioned",
    ]  # fmt: skip
    assert mapped_alone(load(Config, ML, overrides)) == []


def test_what_is_wrong_with_a_sequence_is_said_at_once():
    wrong = [
        "layout={kind: sequence, positions: 100, window: 101}",
        "negatives.per=click",
        "negatives.unique=tensorflow",
    ]
    with pytest.raises(ConfigurationError) as error:
        load(Config, ML, wrong)
    head, *lines = str(error.value).split("\n")
    assert "1 problem in the configuration" in head
    (line,) = lines
    for said in ("negatives.per: a sequence's", "layout.window: 101 clicks", "negatives.unique: tensorflow draws"):
        assert said in line


@pytest.mark.parametrize(
    ("overrides", "unique"),
    [
        (["layout={kind: sequence}"], True),
        (["layout={kind: sequence}", "negatives.unique=false"], False),
        (["layout={kind: block}"], False),
        (["layout={kind: block}", "negatives.unique=true"], True),
        (["layout={kind: sequence, positions: 100, window: 100}"], True),
        (["layout={kind: sequence}", "negatives.unique=tensorflow"], "tensorflow"),
        (["layout={kind: block}", "negatives.per=click"], False),
        (["layout={kind: row}", "negatives.per=click", "negatives.unique=true"], True),
    ],
)
def test_sequences_draw_different_items_unless_told_otherwise(overrides, unique):
    assert load(Config, ML, ["negatives.per=block", *overrides]).unique == unique


def test_only_one_distribution_for_all_clicks_goes_without_replacement(monkeypatch):
    from pipelines import config_rules

    overrides = ["layout={kind: block}", "negatives.per=click", "negatives.unique=true"]
    overrides.append("negatives.proposal={popularity: {}}")
    assert load(Config, ML, overrides).unique is True
    monkeypatch.setattr(config_rules, "CATALOGUE_WIDE", ("uniform",))  # as if popularity drew from a click's own list
    with pytest.raises(ConfigurationError, match=r"negatives\.unique: popularity draws for each click"):
        load(Config, ML, overrides)


def test_overrides_act():
    config = load(
        Config, ML, ["negatives.count=7", "layout={kind: row}", "negatives.proposal={uniform: }", "output.path=x"]
    )
    assert (config.negatives.count, config.layout.kind, config.output.path) == (7, "row", "x")
    assert config.negatives.proposal.components == [("uniform", 1.0, {})]


def test_a_date_writes_below_its_own_folder():
    config = for_date(load(Config, ML, ["date=2026-11-20"]))
    assert config.output.path == "out/ml-100k/dt=2026-11-20"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[1, 2]", "must be a mapping"), (b"a: [", "not valid YAML"), (b"\xff\xfe", "UTF-8"), (None, "cannot be read")],
)
def test_a_file_that_is_no_configuration_is_refused(content, said, tmp_path):
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        load(Config, path)
