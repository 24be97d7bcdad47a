"""The one sentence of compare.py: which brokers passed, which one is ahead, what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Document = dict[str, Any]  # what --json writes, see docs/explanation/compare.md

MAX_NAMED = 3  # checks that failed
NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
ALL = {2: 'both', 3: 'all three'}  # brokers
UNKNOWN = 'not known'
KNOWN = ('pass', 'FAIL')
FACTS = 'limits met'  # the check that looks for what may differ
# How many times the one that is ahead is as good, in words.
ADVANTAGES = {
    ('throughput', 'rate'): '{ahead} is {times} times as fast at persistent messages{than}',
    ('latency', 'p50'): 'a message takes {times} times as long through {behind}',
    ('latency', 'p99'): 'the slowest 1 % of messages take {times} times as long through {behind}',
}


def conclusion(document: Document) -> str:
    """Return what a run has shown, in one sentence."""
    parts = [*checked(document), *measured(document), *remarks(document)]
    sentence = '; '.join(parts)
    return f'{sentence[:1].upper()}{sentence[1:]}.'


def counted(number: int, noun: str) -> str:
    """Return a number in words, as far as people write it so, with its noun."""
    if number != 1:
        noun += 's'
    if number < len(NUMBERS):
        return f'{NUMBERS[number]} {noun}'
    return f'{number} {noun}'


# ---- the checks


def checked(document: Document) -> Iterator[str]:
    """Yield how the checks went: of all brokers at once if all passed, else of each."""
    brokers = document['brokers']
    tallies = [tally(broker) for broker in brokers]
    total = len(brokers[0]['checks'])
    passed_all = all(set(each) == {'pass'} for each in tallies)
    if passed_all and len(brokers) > 1:
        together = ALL.get(len(brokers), f'all {len(brokers)} brokers')
        yield f'{together} pass {checks_of(total)}'
        return
    for broker, each in zip(brokers, tallies):
        yield outcome(name_of(broker), each, total)


def tally(broker: Document) -> dict[str, list[str]]:
    """Return the names of the checks, by verdict."""
    found: dict[str, list[str]] = {}
    for name, cell in broker['checks'].items():
        found.setdefault(cell['verdict'], []).append(name)
    return found


def checks_of(total: int) -> str:
    """Return 'all 13 checks' and the like."""
    few = {1: 'the one check', 2: 'both checks'}
    return few.get(total, f'all {total} checks')


def name_of(broker: Document) -> str:
    """Return what to call a broker; who never said what it is has an address only."""
    if broker['broker'] == UNKNOWN:
        return f'the broker at {broker["address"]}'
    return str(broker['label'])


def outcome(name: str, found: dict[str, list[str]], total: int) -> str:
    """Return how the checks of one broker went."""
    if set(found) == {'pass'}:
        return f'{name} passes {checks_of(total)}'
    if set(found) == {UNKNOWN}:
        return f'nothing is known about {name}'
    if set(found) == {'not possible'}:
        return f'no check is possible on {name}'
    return f'{name} {", ".join(verdicts(found, total))}'


def verdicts(found: dict[str, list[str]], total: int) -> Iterator[str]:
    """Yield what a broker failed and passed, and what is missing."""
    failed = found.get('FAIL', [])
    passed = len(found.get('pass', []))
    of_total = f' of {total} checks'
    if failed:
        yield f'fails {len(failed)}{of_total} ({named(failed)})'
        of_total = ''
    if passed or not failed:
        yield f'passes {passed}{of_total}'
    for verdict in ('not possible', UNKNOWN):
        number = len(found.get(verdict, []))
        verb = 'is' if number == 1 else 'are'
        if number:
            yield f'{number} {verb} {verdict}'


def named(checks: Sequence[str]) -> str:
    """Return the first names; a name may hold a comma."""
    names = list(checks[:MAX_NAMED])
    if len(checks) > MAX_NAMED:
        names.append('...')
    return '; '.join(names)


# ---- what was measured in rounds


def measured(document: Document) -> Iterator[str]:
    """Yield who is ahead in what, or that nobody is."""
    compared = document['comparisons']
    found = [each for each in compared if each['verdict'] == 'difference']
    known = [each for each in compared if each['verdict'] != UNKNOWN]
    for each in found:
        yield advantage(document, each)
    if found and len(known) > len(found):
        yield 'no other difference in speed beyond noise'
    elif known and not found:
        yield 'no difference in speed beyond noise'
    elif compared and not known:
        yield 'whether one is faster is not known'


def advantage(document: Document, comparison: Document) -> str:
    """Return who is ahead, and by how much; of two brokers the other one is not named."""
    template = ADVANTAGES.get((comparison['check'], comparison['figure']))
    if not template:
        return str(comparison['text'])
    brokers = document['brokers']
    places = {comparison['first'], comparison['second']}
    ahead = comparison['ahead']
    (behind,) = places - {ahead}
    than = ''
    if len(brokers) > 2:
        than = f' as {name_of(brokers[behind])}'
    return template.format(
        ahead=name_of(brokers[ahead]),
        behind=name_of(brokers[behind]),
        times=shown(comparison['times']),
        than=than,
    )


def shown(times: float) -> str:
    """Return how many times something is as good; near 1 more digits are needed."""
    return f'{times:.2f}' if times < 1.1 else f'{times:.2g}'


def differences_are_known(document: Document) -> bool:
    """Return whether each broker was asked for what it allows."""
    cells = [broker['checks'].get(FACTS) for broker in document['brokers']]
    return all(cell and cell['verdict'] in KNOWN for cell in cells)


# ---- what else the reader should know


def remarks(document: Document) -> Iterator[str]:
    """Yield what differs, what is missing, and what spoils the run."""
    brokers = document['brokers']
    differences = document['differences']
    left_out = document['settings']['not_tried']
    if len(brokers) > 1 and differences_are_known(document):
        yield counted(len(differences), 'legal difference')
    elif len(brokers) > 1 and FACTS not in left_out:
        yield 'legal differences are not known'
    if left_out:
        verb = 'was' if len(left_out) == 1 else 'were'
        yield f'{counted(len(left_out), "check")} {verb} not tried'
    for broker in brokers:
        if broker['left']:
            yield f'something is left on {name_of(broker)}'
    if document['load']['spoils']:
        yield 'other processes spoiled the figures'
