"""compare.py --junit, read by junitparser, and what XML cannot hold."""

import io

import junitparser

from siamese.testbed import comparison, junit
from siamese.testbed.comparison import Cell, Column
from siamese.testbed.machine import Load

NASTY = 'a <b> & "c" \x00\x1b[31m\x0b\ufffe\ud800 ü'
CELLS = {
    'good': Cell('pass', '20 blocks', took_s=1.5),
    'bad': Cell('FAIL', NASTY, took_s=2),
    'barred': Cell('not possible', 'no priorities', took_s=0.25),
    'unclear': Cell('not known', 'broker unreachable', took_s=0),
}
KINDS = {
    'bad': junitparser.Failure,
    'barred': junitparser.Skipped,
    'unclear': junitparser.Error,
}


def suites_of(*columns):
    about = {'date': '2026-11-27T08:00:00Z', 'command': './compare.py', 'load': Load().document()}
    xml = junit.document(comparison.document(columns, 1, **about))
    return list(junitparser.JUnitXml.fromfile(io.BytesIO(xml.encode())))


def test_verdicts_become_what_ci_systems_know():
    (suite,) = suites_of(Column('RabbitMQ 9', 'host:1/v', CELLS, {}, [], 7))
    assert suite.name == 'RabbitMQ 9 at host:1/v'
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    assert (suite.time, suite.timestamp) == (3.75, '2026-11-27T08:00:00')
    cases = {case.name: case for case in suite}
    assert list(cases) == list(CELLS)
    assert cases['good'].is_passed and cases['good'].system_out == '20 blocks'
    for name, kind in KINDS.items():
        (result,) = cases[name].result
        assert type(result) is kind and result.type == CELLS[name].verdict
        assert cases[name].classname == suite.name and cases[name].time == CELLS[name].took_s
    assert cases['barred'].result[0].message == 'no priorities'


def test_what_xml_cannot_hold_is_escaped():
    (suite,) = suites_of(Column(NASTY, NASTY, CELLS, {}, [], 7))
    cases = {case.name: case for case in suite}
    expected = 'a <b> & "c" \\x00\\x1b[31m\\x0b\\ufffe\\ud800 ü'
    assert cases['bad'].result[0].message == cases['bad'].result[0].text == expected
    assert suite.name == f'{expected} at {expected}'


def test_each_broker_is_a_suite():
    columns = [Column('RabbitMQ 9', f'host:{port}/v', CELLS, {}, [], 7) for port in (1, 2)]
    assert [suite.name for suite in suites_of(*columns)] == [
        'RabbitMQ 9 at host:1/v',
        'RabbitMQ 9 at host:2/v',
    ]
