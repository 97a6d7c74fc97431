"""Tasks of Spark's event log are counted where they ended well, by stage."""

from tests.benchmarks.event_log import stages_of


def ended(stage, begin, end, shuffled=0, reason="Success"):
    return {
        "Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task End Reason": {"Reason": reason},
        "Task Info": {"Launch Time": begin, "Finish Time": end},
        "Task Metrics": {"Shuffle Write Metrics": {"Shuffle Bytes Written": shuffled}},
    }  # fmt: skip


def test_stages_hold_their_tasks():
    events = [
        {"Event": "SparkListenerApplicationStart"}, ended(4, 0, 9_000, 5), ended(4, 0, 1_000, 7), ended(4, 0, 2_500),
        ended(4, 0, 60_000, 100, "ExceptionFailure"), ended(2, 5, 6),
    ]  # fmt: skip
    small, large = stages_of(events)
    assert (small.number, large.number) == (2, 4)
    assert (large.longest, large.median, large.shuffled_bytes) == (9.0, 2.5, 12)
