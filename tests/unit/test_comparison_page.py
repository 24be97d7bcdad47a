"""The page of compare.py --html, as text: escaped, complete, and one file that loads nothing."""

import copy
import re
from html.parser import HTMLParser

import pytest
from support.comparisons import EXAMPLE, LOAD, MEANINGS, NEW, OLD, QPID, broker, compared, document

from siamese.testbed.comparison_page import POLICY, VERDICTS, html
from siamese.testbed.conclusion import conclusion
from siamese.testbed.markup import VOID, Html, element, markup

EVIL = '"><script>alert(1)</script>&amp;{style}'


class Outline(HTMLParser):
    """What a page is made of: text by element, attributes; fails where elements do not nest."""

    def __init__(self, page):
        super().__init__()
        self.open = []  # entries of `texts`
        self.texts = []  # [element, text of its own]
        self.elements = []  # (element, attributes)
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.texts.append([tag, ''])
            self.open.append(self.texts[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for entry in self.open[-1:]:
            entry[1] += data

    def all(self, tag):
        return [text for name, text in self.texts if name == tag]

    def attributes(self, tag):
        return [found for name, found in self.elements if name == tag]


def strings_of(found, replaced):
    """Return a copy of a document in which each text of a stranger is replaced."""
    copied = copy.deepcopy(found)
    copied['command'] = replaced
    for each in copied['brokers']:
        each.update(broker=replaced, address=replaced, label=replaced, left=[replaced])
        each['facts'] = {replaced: f'not tried {replaced}'}
        for cell in each['checks'].values():
            cell['text'] = replaced
    copied['differences'] = {replaced: [replaced] * 2}
    for each in copied['comparisons']:
        each['text'] = replaced
    return copied


def test_whatever_a_broker_says_is_escaped():
    evil = Outline(html(strings_of(EXAMPLE, EVIL)))
    harmless = Outline(html(strings_of(EXAMPLE, 'harmless')))
    tags = [name for name, _ in evil.elements]
    assert tags == [name for name, _ in harmless.elements]
    assert 'script' not in tags
    assert all(EVIL in text for text in evil.all('td'))


def test_nothing_is_loaded():
    page = html(EXAMPLE)
    outline = Outline(page)
    assert {each.get('content') for each in outline.attributes('meta')} >= {POLICY}
    assert not {'link', 'script', 'img', 'iframe'} & {name for name, _ in outline.elements}
    assert not re.search(r'url\(|@import|\bsrc=|\bhref=', page)


def test_the_sentence_comes_first_then_what_the_run_was():
    outline = Outline(html(EXAMPLE))
    assert outline.attributes('html') == [{'lang': 'en'}]
    assert outline.all('h1') == ['Brokers compared']
    assert outline.all('h2')[:2] == ['The run', 'How the checks went']
    page = html(EXAMPLE)
    facts = (
        '2026-11-27 07:50:12 UTC, for 5 min',
        'python 3.12.3',
        'Linux 6.1.0 x86_64, 2 processors',
    )
    told = [conclusion(EXAMPLE), *facts, LOAD, 'at most 200,000 messages', 'runs/brokers.html']
    places = [page.index(text) for text in told]
    assert places[0] == min(places)
    assert max(places) < page.index('How the checks went')


@pytest.mark.parametrize(
    'brokers', [[OLD], [OLD, NEW], [OLD, NEW, QPID]], ids=['one', 'two', 'three']
)
def test_tables_have_heads_for_rows_and_columns(brokers):
    outline = Outline(html(document(*brokers, differences={'frame': ['1'] * len(brokers)})))
    scopes = [each['scope'] for each in outline.attributes('th')]
    tables = len(outline.attributes('table'))
    assert tables == (1 if len(brokers) == 1 else 2)
    assert scopes.count('col') == tables * (1 + len(brokers))
    assert scopes.count('row') == len(MEANINGS) + tables - 1


def test_a_chart_says_in_words_what_it_shows():
    outline = Outline(html(EXAMPLE))
    assert outline.all('strong') == [
        'throughput, rate',
        'latency, p50',
        'latency, p99',
        'RPC, median',
    ]
    assert outline.all('em') == ['more is better', *['less is better'] * 3]
    assert outline.all('desc')[0] == (
        'RabbitMQ 3.10.8: 10,000 msg/s (9,500 to 10,500); '
        'RabbitMQ 4.0.5: 12,000 msg/s (11,400 to 12,600)'
    )
    ids = {each['id'] for tag in ('title', 'desc') for each in outline.attributes(tag) if each}
    for svg in outline.attributes('svg'):
        assert svg['role'] == 'img'
        assert {*svg['aria-labelledby'].split()} <= ids


def test_a_bar_has_its_spread_where_that_is_known():
    outline = Outline(html(EXAMPLE))
    assert len(outline.attributes('rect')) == 2 * 4
    assert len(outline.attributes('line')) == 3 * 2 * 3
    assert 'measured once, so it is not compared' in outline.all('p')


def test_what_has_no_figure_has_no_chart():
    failed = broker('X', throughput='FAIL', latency='not known', RPC='not possible')
    outline = Outline(html(document(failed, status=1)))
    assert not outline.attributes('svg')
    assert 'What was measured' not in outline.all('h2')


def test_a_figure_of_one_broker_alone_is_drawn():
    interrupted = broker('X')
    interrupted['checks']['latency']['figures']['p50'].update(median=None, low=None, high=None)
    outline = Outline(html(document(OLD, interrupted)))
    assert outline.all('desc')[1] == 'RabbitMQ 3.10.8: 0.58 ms (0.55 to 0.61)'
    assert len(Outline(html(document(interrupted))).attributes('svg')) == 3


def test_each_check_and_each_verdict_is_explained():
    page = html(document(OLD, not_tried=['priority']))
    for meaning in (*MEANINGS.values(), *VERDICTS.values()):
        assert meaning in page
    assert f'{MEANINGS["priority"]} (not tried)' in page


def test_what_was_not_tried_is_listed():
    outline = Outline(html(document(OLD, QPID, not_tried=['RPC'])))
    assert outline.all('li')[:4] == [
        'left out by --only: RPC',
        'message of 20 MiB, on RabbitMQ 3.10.8: not tried (--budget)',
        'message of 20 MiB, on qpid 10.1.0: not tried (--budget)',
        'priority, on qpid 10.1.0: not possible, why it is not possible',
    ]
    stopped = broker('X', RPC='not known', latency='not known')
    assert 'latency; RPC, on X: not known, why it is not known' in html(document(stopped))


def test_what_spoils_the_run_is_a_warning():
    left = {**OLD, 'left': ['siamese.compare-1.dlx']}
    page = html(document(left, spoils=True, status=3))
    assert page.count('class="warning"') == 2
    assert 'left on RabbitMQ 3.10.8: siamese.compare-1.dlx' in page
    assert 'class="warning"' not in html(document(OLD))


@pytest.mark.parametrize(
    'status, badge',
    [(0, 'pass'), (1, 'FAIL'), (3, 'not known'), (130, 'not known')],
)
def test_the_sentence_has_the_verdict_of_the_exit_status(status, badge):
    assert Outline(html(document(OLD, status=status))).all('b')[0] == badge


def test_without_a_difference_that_is_said():
    assert 'None was found.' in html(document(OLD, NEW, comparisons=[compared(0, 1, None)]))
    assert 'None was found.' not in html(document(OLD))
    unknown = broker('X', **{'limits met': 'not known'})
    page = html(document(OLD, unknown))
    assert 'None was found.' not in page and 'Not known: the check' in page


def test_text_is_escaped_once():
    assert markup('a < b', Html('<b>')) == 'a &lt; b<b>'
    assert element('p', 'a & b', element('br_'), class_='"') == (
        '<p class="&quot;">a &amp; b<br_></br_></p>'
    )
    assert element('meta', http_equiv='x') == '<meta http-equiv="x" />'
