"""What the pages of the dashboard show, without a browser."""

import re
from types import SimpleNamespace

import pytest
from support.builders import letter
from support.colours import contrast

from siamese import ROOT
from siamese.monitoring import alert_groups, alerts, clients, database, dead_letters
from siamese.web import address, clients_page, dead_letters_page, page, queues_page, tables
from siamese.web.notes import Note

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


def test_a_monitor_that_ended_while_the_clock_was_ahead_is_silent(db):
    found = page.broker_status(db, ARGS, NOW - 3600)
    assert found.state == 'monitor silent'
    assert 'written nothing since the clock was set back' in found.notes[0].text
    assert page.broker_status(db, ARGS, NOW - 2).state == 'RabbitMQ 3.10.8 up'


def test_a_mail_that_cannot_be_sent_is_an_urgent_note_on_every_page(db):
    failure = {'since': NOW - 600, 'reason': '550 no <b>such</b> user'}
    database.set_facts(db, mail={'told': {}, 'until': 0, 'sent': 0, 'failure': failure})
    found = page.broker_status(db, ARGS, NOW)
    (note,) = page.notes_for(found, '/clients')
    assert note.urgent
    assert note.text == 'no mail could be sent for 10 min, retrying: 550 no <b>such</b> user'
    assert note.remedy.startswith('Check --smtp')


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
    notes = [Note(number < 2, str(number)) for number in range(9)]
    found = page.BrokerStatus('', '', notes, 0, '', None, True, 20, [])
    on_first_page = page.notes_for(found, '/')
    assert on_first_page[:5] == notes[:5]
    assert on_first_page[5] == Note(False, 'and 4 more', '/warnings')
    assert page.notes_for(found, '/clients') == notes[:2]


def test_an_alarm_turns_the_state_red_and_counts_who_is_blocked(db):
    database.set_facts(db, alarms={'memory alarm on a@b': NOW})
    blocked = {'does': 'publishes', 'blocked': True, 'connections': {'1': (0, 0)}}
    clients.update(db, NOW, {('alice', 'guest'): blocked})
    found = page.broker_status(db, ARGS, NOW)
    assert (found.state, found.tone) == ('RabbitMQ 3.10.8: alarm, 1 publisher blocked', 'bad')
    assert found.is_current


@pytest.mark.parametrize(
    'facts, later_s, expected',
    [
        ({}, 0, True),
        ({}, 20, True),
        ({}, 26, False),  # three intervals and the grace are over
        ({'state': 'unavailable'}, 0, False),
        ({'collected': None}, 0, False),
    ],
)
def test_figures_are_current_while_they_are_collected(db, facts, later_s, expected):
    database.set_facts(db, **facts)
    now = NOW + later_s
    database.set_facts(db, monitor={'name': 'm', 'seen': now, 'interval': 5})
    assert page.broker_status(db, ARGS, now).is_current is expected


def test_an_outage_lasts_until_the_broker_is_back(db):
    database.set_facts(db, outages=[[NOW - 300, NOW - 200]])
    assert page.broker_status(db, ARGS, NOW).outages == [(NOW - 300, NOW - 200)]
    database.set_facts(db, state='unavailable', since=NOW - 9)
    assert page.broker_status(db, ARGS, NOW).outages[1:] == [(NOW - 9, NOW)]


def test_while_nobody_knows_what_clients_do_they_are_grey(db):
    clients.update(
        db, NOW, {('alice', 'guest'): {'does': '', 'blocked': 0, 'connections': {1: (1, 0)}}}
    )
    (alice,) = clients.rows(db)
    assert clients_page.table_row(alice, NOW)['tone'] == 'good'
    row = clients_page.table_row(alice, NOW, 'unknown since 12:00:00 UTC')
    assert (row['tone'], row['state'], row['since']) == ('off', 'unknown since 12:00:00 UTC', '?')


def test_an_interruption_says_for_how_long():
    row = {'last_interruption': NOW - 81, 'back': NOW - 61}
    assert clients_page.last_interruption(row, NOW) == '81 s ago, for 20 s'
    row = {'last_interruption': None, 'back': None}
    assert clients_page.last_interruption(row, NOW) == 'none'


# ---- tables and addresses


def test_only_cells_that_changed_travel_to_the_browser():
    before = [{'id': 1, 'name': 'a', 'ready': '0'}, {'id': 2, 'name': 'b', 'ready': '0'}]
    after = [{'id': 1, 'name': 'a', 'ready': '5'}, {'id': 2, 'name': 'b', 'ready': '0'}]
    assert tables.difference(before, before) == {'changes': [], 'order': None}
    assert tables.difference(before, after) == {'changes': [[1, {'ready': '5'}]], 'order': None}
    assert tables.difference(before, after[1:]) == {'changes': [], 'order': [2]}
    assert tables.difference(before[:1], before)['changes'] == [[2, before[1]]]


def test_an_address_holds_what_is_not_usual():
    asked = address.Address('/queue', {'name': 'a b', 'page': ''})
    assert str(asked) == '/queue?name=a+b'
    assert asked.get('page', '1') == '1'


@pytest.mark.parametrize(
    'query, sorting, first',
    [
        ({}, '-ready', 0),
        ({'sort': 'name', 'page': '2'}, 'name', 25),
        ({'sort': '-name', 'page': '999'}, '-name', 50),
        ({'sort': 'state', 'page': '-3'}, '-ready', 0),
        ({'sort': '<script>', 'page': '9' * 99}, '-ready', 0),
    ],
)
def test_a_table_takes_sort_and_page_from_the_address(query, sorting, first):
    table = tables.PagedTable.__new__(tables.PagedTable)
    table.address = address.Address('/', query)
    table.columns = queues_page.COLUMNS
    table.usual_sort = '-ready'
    assert (table.sorting(), table.first_of(60)) == (sorting, first)


@pytest.mark.parametrize(
    'query, size, columns',
    [
        ({}, 25, ['state', 'level']),
        ({'rows': '500', 'columns': 'remedy,level'}, 500, ['level', 'remedy']),
        ({'rows': '7', 'columns': 'nonsense'}, 25, ['state', 'level']),
        ({'rows': '-1', 'columns': '<script>,state'}, 25, ['state']),
    ],
)
def test_a_table_takes_its_size_and_columns_from_the_address(query, size, columns):
    table = tables.PagedTable.__new__(tables.PagedTable)
    table.address = address.Address('/', query)
    others = [tables.column(name, name) for name in ('state', 'level')]
    optional = tables.column('remedy', 'What to do', usual=False)
    table.columns = [tables.column('name', 'Name'), *others, optional]
    assert (table.size(), table.chosen()) == (size, columns)


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


def test_a_dead_letter_that_may_be_a_copy_says_so(db):
    equal = [letter(1, message_id='', redelivered=True)]
    for session in 'before a break', 'after it':
        dead_letters.insert(db, equal, session, NOW)
    (copy, first), _ = dead_letters.find(db)
    assert dead_letters_page.table_row(first)['reason'] == 'expired'
    assert dead_letters_page.table_row(copy)['reason'] == 'expired, may be a copy'
    (group,) = alert_groups.grouped(alerts.warnings(db, 0, NOW - 1, NOW))
    assert group.text == 'q: 2 dead letters, expired, 1 of them may be a copy'


@pytest.mark.parametrize(
    'ready, unacked, total', [(2, 3, 5), (0, 0, 0), (None, 3, None), (2, None, None)]
)
def test_a_total_of_which_a_part_is_unknown_is_unknown(ready, unacked, total):
    row = {**QUEUE, 'oldest_since': None, 'ready': ready, 'unacked': unacked}
    assert queues_page.sortable(row, NOW)['total'] == total
