"""The page of compare.py --html: a report for somebody who decides, in one file.

It loads nothing. Whatever brokers say about themselves is escaped, see markup.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siamese.testbed.comparison_charts import BETTER, charts
from siamese.testbed.conclusion import FACTS, conclusion, differences_are_known
from siamese.testbed.markup import Html, element
from siamese.text import count_of, duration

Document = dict[str, Any]  # what --json writes, see docs/explanation/compare.md

STYLE = Path(__file__).with_name('comparison.css')
VIEWPORT = 'width=device-width, initial-scale=1'
HEADER = 'Content-Security-Policy'
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STATUS = {0: 'pass', 1: 'FAIL'}  # by exit status
VERDICTS = {
    'pass': 'the broker does what the check asks for',
    'FAIL': 'the broker offers it, and does it wrong',
    'not possible': 'broker, plan or permissions do not offer it; that is no fault',
    'not known': 'the broker was unavailable, or the run was interrupted',
}
FIRST_REM = 6.4  # the least width of a table: its first column, and each other one
BROKER_REM = 7.5
SPREAD = 'A bar is the median of all rounds. Half of the rounds lie within the line at its end.'
TURNS = (
    ' The brokers took turns, round by round. '
    'A difference is named only where it is beyond the noise.'
)
FACTS_UNKNOWN = f'Not known: the check "{FACTS}" looks for them.'
NEVER_TRIED = (
    'brokers that are killed, and clusters that are split: see ./soak.py',
    'many producers and consumers at full speed',
    'runs of hours',
    'users and permissions: see ./roles.py',
)


def html(document: Document) -> str:
    """Return the page of what --json writes."""
    title = 'Brokers compared'
    if len(document['brokers']) == 1:
        title = 'A broker examined'
    names = ', '.join(broker['label'] for broker in document['brokers'])
    head = element(
        'head',
        element('meta', charset='utf-8'),
        element('meta', http_equiv=HEADER, content=POLICY),
        element('meta', name='viewport', content=VIEWPORT),
        element('title', f'{title}: {names}'),
        element('style', Html(STYLE.read_text(encoding='utf-8'))),
    )
    main = element('main', element('h1', title), *sections(document))
    page = element('html', head, element('body', main), lang='en')
    return f'<!doctype html>\n{page}\n'


def sections(document: Document) -> Iterator[Html]:
    """Yield what the page says, the most important first."""
    yield verdict(document)
    yield from warnings(document)
    yield section('The run', about(document))
    yield section('How the checks went', results(document))
    drawn = list(charts(document))
    if drawn:
        notes = SPREAD
        if len(document['brokers']) > 1:
            notes += TURNS
        yield section(
            'What was measured',
            element('p', notes),
            element('div', *drawn, class_='charts'),
        )
    yield from differences(document)
    yield section('What each check means', meanings(document))
    yield section('What the words mean', definitions(VERDICTS))
    yield section('What was not tried', not_tried(document))


def section(title: str, *content: Html) -> Html:
    """Return a section with its heading."""
    return element('section', element('h2', title), *content)


def verdict(document: Document) -> Html:
    """Return the sentence that says it all."""
    word = STATUS.get(document['exit_status'], 'not known')
    return element('p', badge(word), ' ', conclusion(document), class_='conclusion')


def badge(verdict: str) -> Html:
    """Return a verdict in its colour."""
    return element('b', verdict, class_=verdict.split()[0])


def warnings(document: Document) -> Iterator[Html]:
    """Yield what spoils the figures, and what is left on the brokers."""
    texts = []
    if document['load']['spoils']:
        texts.append(document['load']['text'])
    for broker in document['brokers']:
        left = ', '.join(broker['left'])
        if left:
            texts.append(f'left on {broker["label"]}: {left}')
    for text in texts:
        yield element('p', element('strong', 'Warning: '), text, class_='warning')


# ---- the run


def about(document: Document) -> Html:
    """Return when, where and how the brokers were compared."""
    machine = document['machine']
    processors = machine['processors']
    settings = document['settings']
    began = document['date'].replace('T', ' ').replace('Z', ' UTC')
    facts = {'Date': f'{began}, for {duration(document["took_s"])}'}
    for number, broker in enumerate(document['brokers'], 1):
        name = 'Broker'
        if len(document['brokers']) > 1:
            name = f'Broker {number}'
        published = count_of(broker['messages'], 'message')
        who = f'{broker["broker"]} at {broker["address"]}'
        facts[name] = f'{who}, {published} published'
    versions = document['versions'].items()
    facts['Versions'] = ', '.join(map(' '.join, versions))
    facts['Machine'] = machine['system']
    if processors:
        facts['Machine'] += f', {count_of(processors, "processor")}'
    facts['Other load'] = document['load']['text']
    facts['Rounds'] = settings['rounds']
    budget = count_of(settings['budget'], 'message')
    facts['Budget'] = f'at most {budget} on each broker'
    for name in ('throughput', 'latency'):
        facts[name.capitalize()] = settings.get(name, '')
    listed = [definition(name, text) for name, text in facts.items() if text]
    command = definition('Command', command_line(document['command']))
    return element('dl', *listed, command, class_='facts')


def command_line(command: str) -> Html:
    """Return a command whose words stay whole: a browser would break --html in two."""
    words: list[object] = []
    for word in command.split():
        words += [element('span', word), ' ']
    return element('code', *words[:-1])


def definition(name: object, *content: object) -> Html:
    """Return a term and what it means."""
    return element('div', element('dt', name), element('dd', *content))


def definitions(texts: dict[str, str]) -> Html:
    """Return a list of verdicts and what they mean."""
    listed = [definition(badge(verdict), text) for verdict, text in texts.items()]
    return element('dl', *listed, class_='facts')


# ---- the tables


def table(label: str, document: Document, first: str, rows: list[Html]) -> Html:
    """Return a table with a column for each broker, which scrolls where it is too wide."""
    least_rem = FIRST_REM + BROKER_REM * len(document['brokers'])
    return element(
        'div',
        element(
            'table',
            element('thead', heads(document, first)),
            element('tbody', *rows),
            style=f'min-width: {least_rem}rem',
        ),
        class_='wide',
        role='region',
        aria_label=label,
        tabindex=0,
    )


def heads(document: Document, first: str) -> Html:
    """Return the head of a table."""
    cells = [element('th', first, scope='col')]
    for broker in document['brokers']:
        address = element('small', broker['address'])
        cells.append(element('th', broker['broker'], address, scope='col'))
    return element('tr', *cells)


def row(name: str, cells: list[Html]) -> Html:
    """Return a row of a table."""
    head = element('th', name, scope='row')
    return element('tr', head, *cells)


def results(document: Document) -> Html:
    """Return the table of all checks."""
    brokers = document['brokers']
    rows = []
    for name in brokers[0]['checks']:
        cells = [cell_of(each['checks'][name]) for each in brokers]
        rows.append(row(name, cells))
    return table('How the checks went', document, 'Check', rows)


def cell_of(cell: Document) -> Html:
    """Return a cell: the verdict, the evidence, and whether more or less is better."""
    text = cell['text']
    better = {each['better'] for each in cell['figures'].values()}
    words = [BETTER[each] for each in sorted(better)]
    missing = [each for each in words if each not in text]
    small = [element('small', each) for each in missing]
    return element('td', badge(cell['verdict']), ' ', text, *small)


def differences(document: Document) -> Iterator[Html]:
    """Yield the section of legal differences; one broker has none."""
    if len(document['brokers']) == 1:
        return
    title = 'Differences, all of them legal'
    rows = []
    for name, texts in document['differences'].items():
        cells = [element('td', text) for text in texts]
        rows.append(row(name, cells))
    if rows:
        yield section(title, table(title, document, 'Fact', rows))
    elif differences_are_known(document):
        yield section(title, element('p', 'None was found.'))
    else:
        yield section(title, element('p', FACTS_UNKNOWN))


# ---- what it all means


def meanings(document: Document) -> Html:
    """Return what each check means, also those that were not tried."""
    left_out = document['settings']['not_tried']
    listed = []
    for name, meaning in document['meanings'].items():
        text = meaning
        if name in left_out:
            text += ' (not tried)'
        listed.append(definition(name, text))
    return element('dl', *listed, class_='facts')


def not_tried(document: Document) -> Html:
    """Return what this run says nothing about."""
    texts = []
    left_out = '; '.join(document['settings']['not_tried'])
    if left_out:
        texts.append(f'left out by --only: {left_out}')
    for broker in document['brokers']:
        texts += missing_on(broker)
    texts += NEVER_TRIED
    return element('ul', *(element('li', text) for text in texts))


def missing_on(broker: Document) -> Iterator[str]:
    """Yield what was not tried on a broker, or not possible, or is not known."""
    where = broker['label']
    for name, fact in broker['facts'].items():
        if fact.startswith('not tried'):
            yield f'{name}, on {where}: {fact}'
    names: dict[str, list[str]] = {}  # of checks, by the reason
    for name, cell in broker['checks'].items():
        reason = f'{cell["verdict"]}, {cell["text"]}'
        if reason.startswith('not '):
            names.setdefault(reason, []).append(name)
    for reason, checks in names.items():
        yield f'{"; ".join(checks)}, on {where}: {reason}'
