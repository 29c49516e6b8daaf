"""The slope of a heap, how sure it is, and what is made of it."""

from __future__ import annotations

import random

from ansible.module_utils.runbook.rules.web import heap
from ansible.module_utils.runbook.rules.web.heap import Flow, slope


def judged(values, most=4096, warm_up=0):
    found, unknown = heap.judge(Flow("notes", values, warm_up), most)
    return [each.kind for each in found], [each.kind for each in unknown]


def test_the_interval_is_that_of_gilberts_example():
    # Gilbert 1987, example 16.5: 22 slopes of 7 seasons' values are another case; here his rule by hand: 10 values, no
    # ties, C = 1.96 * sqrt(125) = 21.9, ranks 11 and 34 of 45.
    values = [10, 22, 21, 30, 22, 30, 40, 40, 30, 50]
    pairs = sorted((values[b] - values[a]) / (b - a) for a in range(10) for b in range(a + 1, 10))
    found = slope(values)
    assert found.low <= pairs[11]
    assert found.high >= pairs[33]
    assert found.low < found.middle < found.high


def test_a_leak_is_told_by_turn_and_one_leap_is_none():
    chance = random.Random(1)  # noqa: S311 - a sample
    noise = [1_000_000 + chance.randrange(-2000, 2000) for _ in range(20)]
    assert judged([value + 40_000 * turn for turn, value in enumerate(noise)]) == (["heap_growth"], [])
    assert judged(noise) == ([], [])
    leap = [value + (900_000 if turn == 7 else 0) for turn, value in enumerate(noise)]
    assert judged(leap) == ([], [])


def test_what_is_lost_in_noise_is_unknown():
    chance = random.Random(2)  # noqa: S311 - a sample
    wild = [1_000_000 + chance.randrange(-400_000, 400_000) for _ in range(12)]
    assert judged(wild) == ([], ["heap:notes"])


def test_turns_that_warm_up_do_not_count_and_too_few_are_unknown():
    steep = [100_000 * turn for turn in range(6)]
    assert judged(steep + [500_000] * 10, warm_up=6) == ([], [])
    assert judged([1, 2, 3, 4, 5]) == ([], ["heap:notes"])


def test_the_limit_is_no_leak():
    assert judged([4096 * turn for turn in range(10)]) == ([], [])
    assert judged([4097 * turn for turn in range(10)]) == (["heap_growth"], [])


def test_what_is_held_is_told():
    found, _ = heap.judge(Flow("notes", [9000 * n for n in range(8)], 0, [22 * n for n in range(8)], [5] * 8), 4096)
    assert "With each turn it holds elements +22." in found[0].msg
