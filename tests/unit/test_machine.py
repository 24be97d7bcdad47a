"""What compare.py says about other processes on its machine."""

import os

import pytest

from siamese.testbed import machine
from siamese.testbed.machine import UNKNOWN, Load

STAT = 'cpu  {} 0 0 {} 0 0 0 0 0 0\n'


@pytest.fixture
def stat(tmp_path, monkeypatch):
    """A function that says what /proc/stat holds at each look, and what the look finds."""
    monkeypatch.setattr(machine, 'SETTLE_S', 0)
    monkeypatch.setattr(machine, 'LOOK_S', 0)
    path = tmp_path / 'stat'
    monkeypatch.setattr(machine, 'STAT', str(path))

    def share(*texts):
        sleeps = iter(texts)
        monkeypatch.setattr(machine.time, 'sleep', lambda _: path.write_text(next(sleeps)))
        return machine.look()

    return share


def test_the_share_of_busy_processors(stat):
    assert stat(STAT.format(100, 100), STAT.format(130, 170)) == pytest.approx(0.3)
    assert stat(STAT.format(100, 100), STAT.format(100, 200)) == 0
    assert stat(STAT.format(100, 100), STAT.format(200, 100)) == 1


@pytest.mark.parametrize('text', ['', 'cpu what\n', STAT.format(1, 1)])
def test_what_does_not_tell_is_not_known(stat, text):
    assert stat(text, text) is None


def test_a_system_without_figures_is_not_known(monkeypatch):
    monkeypatch.setattr(machine, 'look', lambda: None)
    monkeypatch.delattr(os, 'getloadavg')
    load = Load()
    load.look_before()
    load.look_between()
    assert load.document() == {
        'before': None,
        'during': None,
        'most': None,
        'spoils': None,
        'text': UNKNOWN,
    }


def test_a_load_average_tells_of_the_time_before(monkeypatch):
    monkeypatch.setattr(machine, 'look', lambda: None)
    monkeypatch.setattr(os, 'getloadavg', lambda: (0.5, 0, 0), raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    load = Load()
    load.look_before()
    load.look_between()
    assert load.before == 0.25 and load.during is None and load.spoils


@pytest.mark.parametrize(
    'before, looks, spoils',
    [
        (0.05, [0.01, 0.1, 0.9], False),  # a single disturbance is what the median is for
        (0.05, [0.5, 0.6, 0.1], True),
        (0.6, [0.0, 0.0], True),
        (0.05, [], False),
    ],
)
def test_what_spoils_the_figures_is_said(before, looks, spoils):
    load = Load(before, looks)
    assert load.spoils == spoils and ('spoils the figures' in load.text) == spoils


def test_this_machine_tells():
    assert 0 <= machine.look() <= 1
