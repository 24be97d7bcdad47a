"""The page of compare.py --html in a real browser: on screens, on paper, and for axe-core."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from pypdf import PdfReader
from support.comparisons import EXAMPLE, NEW, OLD, QPID, compared, document

from siamese.testbed.comparison_page import html

PAGES = {
    'one': document(OLD),
    'two': EXAMPLE,
    'three': document(
        OLD,
        NEW,
        QPID,
        comparisons=[compared(1, 0, 1.2), compared(0, 2, 2), compared(1, 2, 2.4)],
        differences={'frame': ['1', '2' * 200, '3']},
        status=1,
        spoils=True,
        not_tried=['priority'],
    ),
}
WIDTHS = (390, 1024, 1440)
BLACK = 'rgb(0, 0, 0)'
CAPTIONS = re.compile('throughput, rate|latency, p50|latency, p99|RPC, median')


@pytest.fixture(params=PAGES)
def file(request, tmp_path):
    path = tmp_path / 'page.html'
    path.write_text(html(PAGES[request.param]), encoding='utf-8')
    return path


def opened(browser, path, **options):
    """Open a page; all that it asks for is in `asked`."""
    tab = browser.new_context(**options).new_page()
    tab.asked = []
    tab.on('request', lambda request: tab.asked.append(request.url))
    tab.on('console', lambda message: tab.asked.append(message.text))
    tab.goto(path.as_uri())
    return tab


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_axe_finds_nothing(browser, file, scheme):
    tab = opened(browser, file, color_scheme=scheme)
    found = Axe().run(tab).response
    assert found['passes'] and found['violations'] == []
    assert tab.asked == [file.as_uri()]
    tab.context.close()


@pytest.mark.parametrize('width', WIDTHS)
def test_the_page_is_no_wider_than_the_screen(browser, file, width):
    tab = opened(browser, file, viewport={'width': width, 'height': 900})
    assert tab.evaluate('document.documentElement.scrollWidth') <= width
    # Only the tables may scroll.
    wide = tab.evaluate("""[...document.querySelectorAll('main *')].filter(one =>
        !one.closest('.wide') && one.scrollWidth > innerWidth).map(one => one.outerHTML)""")
    assert wide == []
    tab.context.close()


def test_it_prints_black_on_white_with_its_badges(browser, file):
    tab = opened(browser, file, color_scheme='dark')
    tab.emulate_media(media='print', color_scheme='dark')
    looks = tab.evaluate("""[...document.querySelectorAll('b')].map(one => {
        const style = getComputedStyle(one)
        return [style.color, style.borderTopStyle, style.borderTopColor]
    })""")
    assert looks and all(look == [BLACK, 'solid', BLACK] for look in looks)
    body = tab.evaluate('[getComputedStyle(document.body)].map(one => [one.color, one.background])')
    assert body[0][0] == BLACK and 'rgb(255, 255, 255)' in body[0][1]
    tab.context.close()


def test_no_chart_is_torn_from_its_caption(browser, file, tmp_path):
    """On small sheets, where each page holds two charts at most."""
    tab = opened(browser, file)
    tab.pdf(path=tmp_path / 'page.pdf', width='150mm', height='110mm')
    tab.context.close()
    texts = [page.extract_text() for page in PdfReader(tmp_path / 'page.pdf').pages]
    charts = 0
    for text in texts:
        for part in CAPTIONS.split(text)[1:]:
            charts += 1
            assert 'RabbitMQ 3.10.8' in part, text
    assert charts == 4
