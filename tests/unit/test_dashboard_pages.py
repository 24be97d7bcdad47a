"""What the pages of the dashboard show, without a browser."""

import re
from types import SimpleNamespace

import pytest
from support.colours import contrast

from siamese import ROOT
from siamese.monitoring import database
from siamese.web import page, queues_page

NOW = 1_790_000_000.0
ARGS = SimpleNamespace(unread_after=300, history='siamese.db')
READABLE = 4.5  # WCAG 2.1, level AA
QUEUE = {
    'type': 'classic',
    'state': 'running',
    'ready': 0,
    'publish_rate': 0,
    'deliver_rate': 0,
    'oldest_since': None,
    'no_consumer_since': None,
}


@pytest.fixture
def db():
    """A history whose monitor.py has just collected."""
    db = database.open_for_writing(':memory:')
    database.set_facts(
        db,
        state='up',
        since=NOW - 90,
        product='RabbitMQ',
        version='3.10.8',
        collected=NOW,
        monitor={'name': 'monitor.py@test', 'seen': NOW, 'interval': 5},
    )
    yield db
    db.close()


def test_a_broker_that_is_up_needs_no_note(db):
    found = page.broker_status(db, ARGS, NOW)
    assert (found.state, found.tone, found.notes) == ('RabbitMQ 3.10.8 up', 'good', [])


def test_a_silent_monitor_is_the_first_note_of_all(db):
    database.set_facts(db, alarms={'memory alarm on a@b': NOW})
    found = page.broker_status(db, ARGS, NOW + 600)
    assert (found.state, found.tone) == ('monitor silent', 'warn')
    silence, alarm = found.notes
    assert silence.urgent and silence.text.startswith('monitor.py has written nothing for 10 min')
    assert alarm.urgent and 'memory alarm' in alarm.text


def test_a_history_nobody_has_written_to_yet_says_so(db):
    database.set_facts(db, monitor=None, state=None)
    found = page.broker_status(db, ARGS, NOW)
    assert 'written nothing yet' in found.notes[0].text
    assert page.broker_state(database.broker(db), NOW) == ('looking for the broker', 'off')


def test_a_broker_that_is_not_up_is_unavailable(db):
    database.set_facts(db, state='unavailable', since=NOW - 300)
    found = page.broker_status(db, ARGS, NOW)
    assert (found.state, found.tone) == ('RabbitMQ 3.10.8 unavailable for 5 min', 'bad')


def test_only_six_notes_are_shown_and_beyond_the_first_page_only_urgent_ones():
    notes = [page.Note(number < 2, str(number)) for number in range(9)]
    found = page.BrokerStatus('', '', notes, 0, '', None)
    on_first_page = page.notes_for(found, '/')
    assert on_first_page[:5] == notes[:5]
    assert on_first_page[5].text == 'and 4 more: ./monitor.py --once lists them'
    assert page.notes_for(found, '/clients') == notes[:2]


@pytest.mark.parametrize(
    'facts, expected',
    [
        ({}, 'idle'),
        ({'state': 'gone'}, 'gone'),
        ({'state': None}, 'new'),
        ({'publish_rate': 1}, 'active'),
        ({'ready': 1, 'no_consumer_since': NOW}, 'no consumer'),
        ({'ready': 1, 'oldest_since': NOW - 61}, 'not read'),
        ({'ready': 1, 'oldest_since': NOW - 59}, 'idle'),
        ({'ready': 1, 'oldest_since': NOW - 61, 'deliver_rate': 1}, 'active'),
        ({'ready': 1, 'oldest_since': NOW - 61, 'type': 'stream'}, 'idle'),
    ],
)
def test_the_state_of_a_queue(facts, expected):
    assert queues_page.state_of({**QUEUE, **facts}, NOW)[1] == expected


@pytest.mark.parametrize('mode', [1, 2], ids=['light', 'dark'])
def test_every_colour_can_be_read(mode):
    style = (ROOT / 'siamese/web/dashboard.css').read_text()
    found = re.findall(r'--(\w+): light-dark\((#\w{6}), (#\w{6})\)', style)
    colours = {row[0]: row[mode] for row in found}
    for name in 'text', 'muted', 'accent', 'good', 'warn', 'bad':
        for ground in 'card', 'page':
            ratio = contrast(colours[name], colours[ground])
            assert ratio >= READABLE, f'{name} on {ground}'
