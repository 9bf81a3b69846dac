"""Times of functions that take turns, by a clock of the test's own."""

import pytest

from bench import timing


def test_timings_match_a_fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the timed functions advance the clock."""
    now = 0.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    times = timing.interleaved({"short": lambda: advance(0.001), "long": lambda: advance(0.01)}, 3)
    for name, seconds in {"short": 0.001, "long": 0.01}.items():
        assert times[name][:4] == pytest.approx((seconds, seconds, seconds, 3))
        assert times[name].samples == pytest.approx([seconds] * 3)
    assert timing.per_call(lambda: advance(0.001)) == pytest.approx(0.001)
    assert timing.per_call(lambda: advance(1e-6)) == pytest.approx(1e-6)


def test_an_interrupted_measurement_keeps_what_it_has() -> None:
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    said: list[str] = []
    times = timing.interleaved({"first": lambda: None, "second": stop}, 9, said.append)
    assert (times["first"].runs, times["second"].runs) == (3, 2)
    assert said == [
        "warm-up",
        "turn 1 of 9",
        "turn 2 of 9",
        "turn 3 of 9",
        "interrupted; what was measured is kept",
    ]
