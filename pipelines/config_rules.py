"""What sections of a job file demand of each other: rules that no section can check by itself.

Each rule gives problems in words, with the option that mends them; all of them are told at once.
"""

from typing import TYPE_CHECKING

from samplers import strategies

if TYPE_CHECKING:
    from pipelines.config import Config

CATALOGUE_WIDE = ("uniform", "popularity", "log_uniform")  # strategies that are one distribution for all clicks
DAYS = ("date", "first", "last")  # what {...} in paths and filters may stand for


def problems(config: "Config") -> list[str]:
    """All that is wrong with a job file whose sections are right by themselves."""
    return [
        *_of_frequencies(config), *_of_features(config), *_of_layout(config), *_of_date(config),
        *_of_partitions(config), *_of_strategies(config), *_of_in_batch(config), *_of_lists(config),
        *_of_exclusion(config),
    ]  # fmt: skip


def mapped_alone(config: "Config") -> list[str]:
    """What of this job needs a mapped catalogue, each with the option that says so."""
    negatives, found = config.negatives, []
    if config.layout.kind == "sequence":
        found.append("layout.kind: sequence")
    if negatives.per == "block":
        found.append("negatives.per: block")
    if negatives.unique:
        found.append("negatives.unique: true")
    found += [
        f"negatives.proposal: {name}" for name, _, _ in negatives.proposal.components if name not in CATALOGUE_WIDE
    ]
    if "listed" in negatives.levels:
        found.append("negatives.exclude: listed")
    if not config.frequencies.plain:
        found.append("frequencies")
    if config.items.available_from is not None or config.items.available_to is not None:
        found.append("items.available_from and available_to")
    if config.inherit is not None:
        found.append("inherit")
    return found


def _of_frequencies(config: "Config") -> list[str]:
    """What is counted by weights that are not there, or stored under a name that is taken."""
    problems = []
    if config.frequencies.weighted and config.clicks.weight is None:
        problems.append("frequencies.weighted: no weights are known; give clicks.weight, or leave it out")
    if "frequency" in config.features.item and not config.frequencies.plain:
        problems.append("features.item: 'frequency' is taken by frequencies; rename it and give its column: frequency")
    return problems


def _of_features(config: "Config") -> list[str]:
    """Features that are nowhere."""
    problems = []
    for name in config.history.features:
        spec = config.features.item.get(name)
        if spec is None:
            problems.append(f"history.features: {name!r} is no item feature; known: {', '.join(config.features.item)}")
    if len(set(config.history.features)) < len(config.history.features):
        problems.append("history.features: a feature is listed twice")
    foreign = [n for n, spec in config.features.user.items() if (spec.column or n) != config.clicks.user]
    if foreign and config.users is None:
        problems.append(
            f"features.user: {', '.join(foreign)} need users: {{path, key}}; "
            f"without it only {config.clicks.user!r} is known"
        )
    return problems


def _of_layout(config: "Config") -> list[str]:
    """Negatives that do not go with the layout of records."""
    problems = []
    if config.negatives.per == "block" and config.layout.kind == "row":
        problems.append("negatives.per: block shares a pool within a record; it needs layout.kind: block or sequence")
    if config.negatives.per == "click" and config.layout.kind == "sequence":
        problems.append("negatives.per: a sequence's clicks share one pool; set negatives.per: block")
    if config.layout.kind == "sequence" and config.layout.window > config.layout.positions:
        problems.append(
            f"layout.window: {config.layout.window:,} clicks do not fit into a record of layout.positions: "
            f"{config.layout.positions:,}; lower the one or raise the other"
        )
    if config.negatives.per == "click" and config.negatives.unique == "tensorflow":
        problems.append(
            "negatives.unique: tensorflow draws a shared pool, as TensorFlow does; set per: block, or unique: true"
        )
    if config.negatives.per == "click" and config.negatives.unique:
        problems += [
            f"negatives.unique: {name} draws for each click from a list or group of its own, which goes with "
            "replacement alone; set unique: false, or leave the strategy out"
            for name, _, _ in config.negatives.proposal.components
            if name not in CATALOGUE_WIDE
        ]
    if config.negatives.per == "block" and config.negatives.shortage == "mask":
        problems.append("negatives.shortage: mask is for per: click; a shared pool masks its accidental hits anyway")
    return problems


def _of_date(config: "Config") -> list[str]:
    """What counts from a day where the job is for none, or lacks what it goes by."""
    clicks, split = config.clicks, config.split
    inputs = {name: getattr(config, name) for name in ("clicks", "items", "users", "impressions")}
    texts = {
        f"{name}.{key}": getattr(source, key) or ""
        for name, source in inputs.items() if source is not None for key in ("path", "filter")
    }  # fmt: skip
    problems = [
        f"{option}: {{first}} is the day in which clicks.window begins; give clicks.window"
        for option, text in texts.items() if "{first}" in text and clicks.window is None
    ]  # fmt: skip
    if clicks.watermark is not None and clicks.arrived is None:
        problems.append("clicks.watermark: bounds when clicks arrived; give clicks.arrived: COLUMN, or leave it out")
    if config.date is not None:
        return problems
    dated = {
        "clicks.window": clicks.window is not None,
        "clicks.arrived": clicks.arrived is not None,
        "inherit: previous": config.inherit == "previous",
        **{f"split.{name}": isinstance(getattr(split, name, None), str) for name in ("test_from", "validation_from")},
        **{name: any(f"{{{day}}}" in text for day in DAYS) for name, text in texts.items()},
    }
    return problems + [
        f"{option}: counts from the day that the job is for; give --date YYYY-MM-DD, or change it"
        for option, there in dated.items() if there
    ]  # fmt: skip


def _of_partitions(config: "Config") -> list[str]:
    """What a partitioned catalogue does not serve."""
    if config.catalogue.kind != "partitioned":
        return []
    return [
        f"catalogue.kind: partitioned does not serve {option}; leave that out, or set catalogue.kind: mapped"
        for option in mapped_alone(config)
    ]


def _of_in_batch(config: "Config") -> list[str]:
    """What is wrong with drawing from a click's own block in this job."""
    negatives, told = config.negatives, "negatives.proposal: in_batch draws from the other clicks of a block"
    if not negatives.proposal.in_batch_share:
        return []
    problems = []
    if negatives.per == "block" or config.layout.kind != "block":
        problems.append(f"{told}; set layout.kind: block and negatives.per: click, or leave it out")
    elif negatives.unique:
        problems.append(f"{told}, which may have an item twice; leave out negatives.unique, or in_batch")
    for option, there in (
        ("clicks.weight", config.clicks.weight is not None),
        ("examples.per_user", config.examples.per_user is not None),
    ):
        if there:
            problems.append(
                f"{told} as often as items are clicked, but {option} leaves clicks out; leave out one of them"
            )
    if negatives.proposal.click_dependent:
        names = ", ".join(name for name, _, _ in negatives.proposal.click_dependent)
        problems.append(f"{told}, whose log_q beside {names} would not be known; leave out one or the other")
    return problems


def _of_strategies(config: "Config") -> list[str]:
    """What is wrong with the strategies of a proposal in this job."""
    negatives, where = config.negatives, "negatives.proposal"
    dependent = negatives.proposal.click_dependent
    if not dependent:
        return []
    names, problems = [name for name, _, _ in dependent], []
    if negatives.per == "block":
        problems.append(
            f"{where}: what {', '.join(names)} draw depends on the click, but here clicks share one pool; "
            "set negatives.per: click and layout.kind: row or block, or leave them out"
        )
    if negatives.unique and negatives.per == "click":
        problems.append(
            f"{where}: {', '.join(names)} cannot be drawn with negatives.unique: true, which is for strategies over "
            "the whole catalogue; leave one of the two out (lists never repeat an item anyway)"
        )
    if not negatives.proposal.catalogue_wide:
        problems.append(
            f"{where}: {names[0]} cannot fill every click's slots; mix in {' or '.join(strategies.CATALOGUE_WIDE)}"
        )
    else:
        of = [" + ".join(name for name, _, _ in negatives.proposal.catalogue_wide), *names]
        problems += [
            f"{where}: {name} gets none of negatives.count: {negatives.count} slots; raise the count or its share"
            for name, slots in zip(of, negatives.proposal.slots(negatives.count), strict=True)
            if not slots
        ]
    problems += [
        f"{where}: {name} is listed twice; a click has one list of a kind, so add the shares"
        for name in ("impressions", "column")
        if names.count(name) > 1
    ]
    for _, _, parameters in (part for part in dependent if part[0] == "same_attribute"):
        feature = parameters["feature"]
        spec = config.features.item.get(feature)
        if spec is None:
            known = ", ".join(config.features.item)
            problems.append(f"{where}.same_attribute.feature: {feature!r} is no item feature; known: {known}")
        elif spec.encode == "none" or spec.shape != "scalar":
            problems.append(
                f"{where}.same_attribute.feature: {feature!r} makes no groups; it needs one value an item, with "
                "encode: vocabulary or buckets"
            )
    return problems


def _of_exclusion(config: "Config") -> list[str]:
    """Levels of exclusion that lack what they go by, and what no level goes by."""
    clicks, levels, problems = config.clicks, config.negatives.levels, []
    if clicks.session is not None and clicks.session_gap is not None:
        problems.append("clicks: session and session_gap both say what a session is; give one of them")
    for level, options in (("listed", ["exclude"]), ("session", ["session", "session_gap"])):
        there = [option for option in options if getattr(clicks, option) is not None]
        if level in levels and not there:
            problems.append(f"negatives.exclude: {level} needs clicks.{' or clicks.'.join(options)}")
        if there and level not in levels:
            problems.append(
                f"clicks.{there[0]}: given, but not used; add {level} to negatives.exclude, or leave it out"
            )
    return problems


def _of_lists(config: "Config") -> list[str]:
    """Strategies whose lists come from nowhere, and lists that no strategy draws from."""
    drawn = [name for name, _, _ in config.negatives.proposal.components]
    problems = []
    if drawn.count("mined") > 1:
        problems.append("negatives.proposal: mined is listed twice, but a click has one mined list; leave one out")
    for strategy, option, there, example in (
        ("impressions", "impressions", config.impressions is not None, "impressions: {path, user, item, time}"),
        ("column", "clicks.negatives", config.clicks.negatives is not None, "clicks.negatives: COLUMN"),
    ):
        if strategy in drawn and not there:
            problems.append(f"negatives.proposal: {strategy} has nothing to draw from; give {example}")
        if there and strategy not in drawn:
            problems.append(
                f"{option}: given, but not drawn from; give {strategy} a share of negatives.proposal.mixture, "
                "or leave it out"
            )
    return problems
