"""Where the time went: news of a stage begins it."""

import pytest

from miaotui.search.clock import Clock, News, TimedWatch


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_each_stage_lasts_until_the_next_begins(ticking: list[float]) -> None:
    heard: list[News] = []
    watch = TimedWatch(Clock(100.0, began=0.0), heard.append)
    for at, stage in ((5.0, "free moves"), (7.0, "free moves"), (20.0, "proof")):
        ticking[0] = at
        watch(News(stage, "", "", 0.0))
    ticking[0] = 30.0
    assert watch.seconds() == {"loading": 5.0, "free moves": 15.0, "proof": 10.0}
    ticking[0] = 31.0
    assert watch.seconds()["proof"] == 11.0
    assert [news.stage for news in heard] == ["free moves", "free moves", "proof"]


def test_a_stage_that_comes_back_is_counted_on(ticking: list[float]) -> None:
    watch = TimedWatch(Clock(100.0, began=0.0), lambda news: None)
    for at, stage in ((0.0, "a"), (1.0, "b"), (3.0, "a"), (7.0, "c")):
        ticking[0] = at
        watch(News(stage, "", "", 0.0))
    assert watch.seconds() == {"loading": 0.0, "a": 5.0, "b": 2.0, "c": 0.0}
