"""compare.py without a broker: the table, the document and the exit status."""

import json

import pytest

import common
from siamese.testbed import comparison, examination, machine
from siamese.testbed.candidate import Candidate
from siamese.testbed.checks import CHECKS, MEANINGS, Result, proxied_url
from siamese.testbed.comparison import Cell, Column
from siamese.testbed.figures import LESS, MORE, Figure
from siamese.testbed.machine import Load
from siamese.testbed.measured import MEASURED

FAST = [100.0, 101, 99, 104, 98, 103, 97, 105, 102, 100.5]  # msg/s
SLOW = [value * 0.7 for value in FAST[::-1]]


def column(facts=None, left=(), rates=(10.0,), **verdicts):
    """Return a Column whose checks have these verdicts, and these rates."""
    figures = {'rate': Figure('messages', 'msg/s', MORE, list(rates))}
    checks = {
        name: Cell(verdict, f'{name} <done>', dict(figures)) for name, verdict in verdicts.items()
    }
    return Column('RabbitMQ 9', 'host:1/v', checks, facts or {}, list(left), 7)


def document(columns):
    """Return the document of columns, as --json writes it."""
    about = {'date': '2026-11-27T08:00:00Z', 'command': './compare.py', 'load': Load().document()}
    found = comparison.document(columns, 0, **about)
    assert json.loads(json.dumps(found)) == found
    return found


@pytest.mark.parametrize(
    'verdicts, left, status',
    [
        (['pass', 'pass'], [], 0),
        (['pass', 'not possible'], [], 0),
        (['not possible', 'not possible'], [], 3),
        (['pass', 'not known'], [], 3),
        (['not known', 'FAIL'], [], 1),
        (['pass', 'pass'], ['siamese.compare-1.dlx'], 3),
    ],
)
def test_exit_status_of_one_broker(verdicts, left, status):
    one = column(left=left, **dict(zip(('a', 'b'), verdicts)))
    assert one.exit_status() == comparison.exit_status([one]) == status


def test_a_failure_goes_before_an_unknown_broker():
    failed, unknown = column(a='FAIL'), column(a='not known')
    assert comparison.exit_status([unknown, failed, column(a='pass')]) == 1
    assert comparison.exit_status([unknown, column(a='pass')]) == 3


def test_summary_counts_the_verdicts():
    one = column(a='pass', b='FAIL', c='pass')
    assert one.summary() == 'RabbitMQ 9 at host:1/v: 2 pass, 1 FAIL'


def test_table_wraps_texts_and_names_differences():
    columns = [column({'frame': '1'}, a='pass'), column({'frame': '2'}, a='FAIL')]
    columns[0].checks['a'].text = 'word ' * 12
    lines = list(comparison.comparison_table(columns))
    assert lines[0].split() == ['RabbitMQ', '9', 'RabbitMQ', '9']
    assert lines[2].startswith('a  ') and not lines[3].startswith('a')
    assert lines[2].count('word') + lines[3].count('word') == 12
    notes = list(comparison.notes(columns))
    assert notes == ['differences, all of them legal:', '  frame: 1; 2']


@pytest.mark.parametrize('width', [40, 60, 80, 120])
@pytest.mark.parametrize('brokers', [1, 2, 3, 5])
def test_table_fits_the_terminal_whole(width, brokers):
    columns = [column(a='pass') for _ in range(brokers)]
    columns[0].checks['a'].text = 'word ' * 30
    lines = list(comparison.comparison_table(columns, width))
    assert max(map(len, lines)) <= width
    text = '\n'.join(lines)
    assert text.count('word') == 30 and text.count('pass') == brokers


def test_equal_facts_are_no_difference():
    columns = [column({'frame': '1'}, a='pass'), column({'frame': '1'}, a='pass')]
    assert not comparison.differences(columns)


def test_a_fact_that_one_broker_lacks_is_not_known():
    columns = [column({'frame': '1'}, a='pass'), column(a='pass')]
    (difference,) = comparison.differences(columns)
    assert difference.texts == ['1', 'not known']


def test_brokers_of_one_name_are_told_apart():
    columns = [column(a='pass'), column(a='pass')]
    assert comparison.labels(columns[:1]) == ['RabbitMQ 9']
    columns[1].address = 'host:2/v'
    assert comparison.labels(columns) == ['RabbitMQ 9 at host:1/v', 'RabbitMQ 9 at host:2/v']
    columns[1].address = 'host:1/v'
    assert len(set(comparison.labels(columns))) == 2
    columns[1].broker = 'LavinMQ 2'
    assert comparison.labels(columns) == ['RabbitMQ 9', 'LavinMQ 2']


@pytest.mark.parametrize('is_first', [True, False])
@pytest.mark.parametrize('better', [MORE, LESS])
def test_the_better_broker_is_ahead(is_first, better):
    rates = [FAST, SLOW]
    if not is_first:
        rates.reverse()
    columns = [column(rates=each, a='pass') for each in rates]
    for each in columns:
        each.checks['a'].figures['rate'].better = better
    (found,) = document(columns)['comparisons']
    assert found['verdict'] == 'difference' and found['rounds'] == 10
    assert found['ahead'] == int((better == MORE) != is_first)
    assert 1 < found['times_low'] <= found['times'] <= found['times_high']
    assert found['times'] == pytest.approx(1 / 0.7, rel=0.05)
    ahead, behind = (f'(no. {place + 1})' for place in (found['ahead'], 1 - found['ahead']))
    words = f'{ahead} is 1.4' if better == MORE else f'{behind} takes 1.4'
    assert words in found['text']


def test_equal_brokers_are_said_to_be_equal():
    columns = [column(rates=FAST, a='pass'), column(rates=FAST[::-1], a='pass')]
    (found,) = document(columns)['comparisons']
    assert found['verdict'] == 'no difference' and found['ahead'] is found['times'] is None
    assert found['low'] < 1 < found['high']
    assert 'no difference beyond noise' in found['text']


def test_too_few_rounds_tell_nothing():
    columns = [column(rates=FAST[:5], a='pass'), column(rates=SLOW[:5], a='pass')]
    (found,) = document(columns)['comparisons']
    assert found['verdict'] == 'not known' and found['low'] is None
    assert '5 rounds cannot tell, 7 can' in found['text']


def test_what_was_measured_once_or_on_one_broker_is_not_compared():
    assert document([column(a='pass'), column(a='pass')])['comparisons'] == []
    assert document([column(rates=FAST, a='pass')])['comparisons'] == []
    without = column(rates=FAST, a='FAIL')
    without.checks['a'].figures = {}
    assert document([column(rates=FAST, a='pass'), without])['comparisons'] == []


def test_every_check_has_a_meaning_and_is_in_the_table_once():
    assert sorted(MEANINGS) == sorted([*CHECKS, *MEASURED])


# ---- rounds


def cell_of(cells, count):
    """Return the cell of these rounds, of `count` that were asked for."""
    series = examination.Series(None, 'throughput', count)
    series.cells = cells
    return series.cell()


def test_the_cell_of_all_rounds_has_median_spread_and_direction():
    rounds = [
        Cell('pass', 'at 500', {'p50': Figure('', 'ms', LESS, [value])}, 2)
        for value in (5.0, 1, 2, 3, 4)
    ]
    cell = cell_of(rounds, 5)
    assert (cell.verdict, cell.took_s) == ('pass', 10)
    assert cell.text == '3.00 ms (2.00 to 4.00), less is better; at 500'
    assert cell.figures['p50'].rounds == [5, 1, 2, 3, 4]


def test_a_round_without_a_figure_keeps_the_others_in_their_places():
    figures = [{}, {'rate': Figure('', 'msg/s', MORE, [7.0])}]
    cell = cell_of([Cell('pass', '', each) for each in figures], 2)
    assert cell.figures['rate'].rounds == [None, 7]


def test_a_round_that_does_not_pass_decides():
    passed = Cell('pass', '', {'rate': Figure('', 'msg/s', MORE, [7.0])})
    cell = cell_of([passed, Cell('FAIL', '1 lost')], 5)
    assert (cell.verdict, cell.text) == ('FAIL', 'in round 2 of 5: 1 lost')
    assert cell.figures['rate'].rounds == [7]
    assert cell_of([Cell('not possible', 'x')], 5).text == 'x'
    assert cell_of([passed], 5).verdict == 'not known'
    assert cell_of([], 5).verdict == 'not known'


@pytest.fixture
def two_brokers(monkeypatch):
    """Two brokers that no script is started against; looks at the machine take no time."""
    monkeypatch.setattr(Candidate, 'connect', lambda broker: None)
    monkeypatch.setattr(machine, 'SETTLE_S', 0)
    monkeypatch.setattr(machine, 'LOOK_S', 0)
    return [Candidate(url, 500) for url in ('amqp://one', 'amqp://two')]


def test_all_brokers_are_measured_in_each_round_until_one_does_not_pass(monkeypatch, two_brokers):
    """One that fails does not stop the other, nor the other figure."""
    calls = []

    def measurement(name):
        def measure(broker, count):
            calls.append((name, broker.url))
            if (name, broker.url, len(calls)) == ('a', 'amqp://two', 2):
                raise examination.Failed('wrong')
            return Result('', {})

        return measure

    monkeypatch.setattr(examination.measured, 'MEASURED', {n: measurement(n) for n in 'ab'})
    monkeypatch.setattr(examination.rounds, 'orders', lambda places, count: [[0, 1], [1, 0]])
    cells = [{}, {}]
    examination.measure(two_brokers, ['a', 'b'], 2, cells, Load())
    one, two = 'amqp://one', 'amqp://two'
    first_round = [('a', one), ('a', two), ('b', one), ('b', two)]
    assert calls == [*first_round, ('a', one), ('b', two), ('b', one)]
    verdicts = [[cell.verdict for cell in found.values()] for found in cells]
    assert verdicts == [['pass', 'pass'], ['FAIL', 'pass']]


def test_no_round_follows_when_nothing_passes(monkeypatch, two_brokers):
    def measure(broker, count):
        raise examination.Unavailable('gone')

    looks = []
    monkeypatch.setattr(examination.measured, 'MEASURED', {'a': measure})
    monkeypatch.setattr(Load, 'look_between', lambda load: looks.append(load))
    cells = [{}, {}]
    examination.measure(two_brokers, ['a'], 20, cells, Load())
    assert len(looks) == 1
    assert [found['a'].text for found in cells] == ['gone', 'gone']


@pytest.mark.parametrize(
    'url, expected',
    [
        ('amqp://u:p@h/v', 'amqp://u:p@h:5672/v'),
        ('amqp://h:1/v?heartbeat=3', 'amqp://h:1/v?heartbeat=3'),
        ('amqps://h/v', 'amqps://h:5671/v?server_name_indication=h'),
        ('amqp://u:p@[::1]/v', 'amqp://u:p@[::1]:5672/v'),
    ],
)
def test_a_proxied_url_has_port_and_name(url, expected):
    (endpoint,) = common.endpoints(url, 'test')
    assert proxied_url(endpoint, url) == expected
