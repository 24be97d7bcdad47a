"""Which rows and columns of a table a reader chooses: in the address, by keyboard, on a phone."""

import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from support.histories import client, collect, queue, seen_now

from siamese.monitoring import clients, details

QUEUES = 60
PHONE = {'width': 390, 'height': 844}
SET_UP = details.details_of({'x-max-length': 7}, 'short', {}, [], [])


@pytest.fixture
def base(db, serve):
    """The address of a dashboard with 60 queues and two clients."""
    names = [f'orders.{number:03}' for number in range(QUEUES)]
    yesterday = time.time() - 24 * 3600
    for at, moved in (yesterday, 0), (time.time(), 8):
        collect(db, *(queue(name, 2, 3, published=moved) for name in names), at=at)
    details.update(db, [(name, SET_UP) for name in names])
    clients.update(
        db,
        time.time(),
        {
            **client('alice', 'guest', 'publishes'),
            **client('bob', 'guest', 'consumes orders.007'),
        },
    )
    seen_now(db)
    return serve()


def open_page(visit, url, **options):
    tab = visit(url, **options)
    is_connected(tab)
    return tab


def is_connected(tab):
    tab.wait_for_function('window.socket && window.socket.connected')


@pytest.mark.parametrize(
    'path, expression, number',
    [
        ('/', r'^orders\.0(0[1-3]|59)$', 4),
        ('/clients', '^(alice|nobody)$', 1),
        ('/history', '0[01]7$', 4),  # on two days
    ],
)
def test_a_regular_expression_finds_rows(base, visit, path, expression, number):
    tab = open_page(visit, base + path)
    field = tab.get_by_placeholder(re.compile('Find a'))
    field.fill(expression)
    expect(tab.get_by_text('clear the')).to_be_visible()  # that is no part of a name
    tab.get_by_label('regex').check()
    name = {'/': 'queues', '/clients': 'clients'}.get(path, 'every queue in every period')
    rows = tab.get_by_role('region', name=name).locator('tbody tr')
    expect(rows).to_have_count(number)
    expect(tab).to_have_url(re.compile('regex='))
    tab.reload()
    is_connected(tab)
    expect(rows).to_have_count(number)
    expect(tab.get_by_label('regex')).to_be_checked()
    field.fill('(')
    expect(tab.get_by_text('no regular expression: missing )')).to_be_visible()
    expect(rows).to_have_count(0)
    tab.get_by_label('regex').uncheck()
    field.fill('')
    expect(rows).not_to_have_count(0)


def test_the_csv_of_an_expression_holds_what_it_finds(base, visit):
    tab = open_page(visit, base + '/history?find=0[01]7$&regex=yes')
    path = tab.get_by_role('link', name='Download as CSV').get_attribute('href')
    read = "fetch('{}').then((answer) => answer.text())"
    assert len(tab.evaluate(read.format(path)).splitlines()) == 5
    assert 'missing )' in tab.evaluate(read.format('/history.csv?find=(&regex=yes'))
    assert tab.failed.pop().startswith('400')


def test_a_page_has_as_many_rows_as_its_reader_wants(base, visit):
    tab = open_page(visit, base + '/?page=3')
    rows = tab.get_by_role('region', name='queues').locator('tbody tr')
    expect(rows).to_have_count(10)
    tab.get_by_label('Rows').select_option('50')
    expect(rows).to_have_count(50)
    tab.get_by_label('Next page').click()
    expect(rows).to_have_count(10)
    expect(tab.get_by_text('51-60 of 60')).to_be_visible()
    expect(tab).to_have_url(re.compile('page=2'))
    tab.reload()
    expect(rows).to_have_count(10)
    expect(tab.get_by_label('Rows')).to_have_value('50')
    tab.goto(base + '/?rows=99999')
    expect(rows).to_have_count(25)


@pytest.mark.parametrize('size', [None, PHONE])
def test_columns_are_chosen_by_keyboard_and_stay(base, visit, size):
    options = {}
    if size:
        options['viewport'] = size
    tab = open_page(visit, base, **options)
    choice = tab.get_by_role('group', name='Columns of the table')
    tab.get_by_text('Columns', exact=True).focus()
    tab.keyboard.press('Enter')
    expect(choice).to_be_visible()
    box = choice.bounding_box()
    assert box['x'] >= 0 and box['x'] + box['width'] <= tab.viewport_size['width']
    for label in 'State', 'Policy', 'Total':
        choice.get_by_label(label).focus()
        tab.keyboard.press('Space')
    expect(tab).to_have_url(re.compile('columns=ready%2C.*policy'))
    row = tab.get_by_role('region', name='queues').locator('tbody tr').first
    for _ in range(2):
        expect(row.locator('td[data-label=Policy]')).to_contain_text('short')
        expect(row.locator('td[data-label=Total]')).to_contain_text('5')
        expect(row.locator('td[data-label=State]')).to_have_count(0)
        tab.reload()
        is_connected(tab)
    tab.get_by_text('Columns', exact=True).click()
    for label in 'State', 'Policy', 'Total':
        choice.get_by_label(label).click()
    expect(tab).to_have_url(base + '/')
    tab.keyboard.press('Escape')
    expect(choice).to_be_hidden()


def test_the_choice_of_columns_closes_by_a_click_beside_it(base, visit):
    tab = open_page(visit, base)
    choice = tab.get_by_role('group', name='Columns of the table')
    tab.get_by_text('Columns', exact=True).click()
    choice.get_by_label('Type').check()
    expect(choice).to_be_visible()
    tab.get_by_role('heading', level=1).click()
    expect(choice).to_be_hidden()


def test_axe_finds_nothing_where_columns_are_chosen(base, visit):
    tab = open_page(visit, base + '/?columns=type,arguments&regex=yes&find=.')
    tab.get_by_text('Columns', exact=True).click()
    tab.wait_for_function('document.getAnimations().length === 0')
    found = Axe().run(tab).response['violations']
    assert [each['id'] for each in found if each['impact'] in ('serious', 'critical')] == []
