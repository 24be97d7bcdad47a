"""dashboard.py under the hands of a person: nothing may move, get lost, or pretend to be known."""

import contextlib
import http.client
import json
import re
import signal
import time

import pika
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from support.hands import NOTE_SHIFTS, layout_shift, lost_clicks
from support.histories import bury, changing, client, collect, queue, seen_now
from support.processes import wait_until

from siamese.monitoring import clients, database, verdicts
from siamese.web import tables

PAGES = ('/', '/queue?name=queue.03', '/history', '/dead', '/clients', '/verdicts')
OTHER_PAGES = (
    '/queue?name=none',
    '/nowhere',
    '/dead?letter=1',
    '/verdicts?verdict=1',
    '/warnings',
    '/warnings?kind=dead-expired',
    '/login',
)
WITHIN = {'/verdicts?verdict=1': '.q-dialog'}  # what lies behind it is dimmed
SERIOUS = ('serious', 'critical')
IS_STILL = 'document.getAnimations().length === 0'  # or what fades in looks pale
GOOD_SHIFT = 0.1  # web.dev/cls
UPDATES = 6  # of the figures under an open page
NETWORK_LIMIT_BYTES = 300_000  # in a minute, with 524 queues
COLLECTIONS_PER_MINUTE = 12
A4 = {'width': 717, 'height': 1047}  # within the margins of Chromium, in px


def region(tab, name):
    return tab.get_by_role('region', name=name)


def wait_for_updates(writing, number=UPDATES):
    then = writing.times + number
    wait_until(lambda: writing.times >= then, 'new figures')


def is_connected(tab):
    tab.wait_for_function('window.socket && window.socket.connected')


# ---- hands


@pytest.mark.parametrize(
    'path, name, role',
    [
        ('/', 'queues', 'link'),
        ('/clients', 'clients', 'button'),
        ('/dead', 'dead letters', 'button'),
    ],
)
def test_no_click_is_lost_while_figures_change(db, file, serve, visit, path, name, role):
    with changing(file):
        tab = visit(serve() + path)
        is_connected(tab)
        elements = region(tab, name).locator('table').get_by_role(role)
        expect(elements.nth(1)).to_be_visible()
        assert lost_clicks(tab, elements.all()[:8], 12) == 0


def test_focus_selection_and_scroll_survive_new_figures(db, file, serve, visit):
    with changing(file) as writing:
        tab = visit(serve() + '/?find=queue.0')  # they all stay on the page
        is_connected(tab)
        region(tab, 'queues').get_by_role('link').nth(8).focus()
        chosen = tab.evaluate('document.activeElement.textContent')
        scrolled = tab.evaluate('scrollY')
        ready = tab.get_by_role('row').filter(has_text=chosen).get_by_role('cell').nth(2)
        for _ in range(2):
            before = ready.inner_text()
            expect(ready).not_to_have_text(before)
        assert tab.evaluate('document.activeElement.textContent') == chosen
        assert tab.evaluate('scrollY') == scrolled
        tab.evaluate('getSelection().selectAllChildren(document.activeElement)')
        before = ready.inner_text()
        expect(ready).not_to_have_text(before)
        assert tab.evaluate('getSelection().toString()') == chosen
        wait_for_updates(writing, 1)


def test_the_focus_stays_on_its_row_if_a_new_order_was_on_its_way(db, serve, visit):
    collect(db, queue('a', ready=5), queue('b', ready=3), queue('c', ready=1))
    tab = visit(serve())
    is_connected(tab)
    link = region(tab, 'queues').get_by_role('link', name='c')
    # Nobody tells dashboard.py of it.
    tab.evaluate("addEventListener('focusin', (event) => event.stopPropagation(), true)")
    link.focus()
    collect(db, queue('a', ready=5), queue('b', ready=3), queue('c', ready=9))
    expect(region(tab, 'queues').get_by_role('row').nth(1)).to_contain_text('c')
    expect(link).to_be_focused()


def test_rows_keep_their_order_while_a_hand_is_on_them(db, serve, visit):
    collect(db, queue('a', ready=5), queue('b', ready=3))
    tab = visit(serve())
    rows = region(tab, 'queues').get_by_role('row')
    is_connected(tab)
    rows.nth(1).hover()
    again = tab.get_by_role('button', name=tables.ORDER_CHANGED)
    for ready in 10, 20:
        collect(db, queue('a', ready=1), queue('b', ready=ready))
        expect(rows.nth(2)).to_contain_text(str(ready))
    expect(rows.nth(1)).to_contain_text('a')
    again.click()
    expect(rows.nth(1)).to_contain_text('b')
    tab.mouse.move(0, 0)
    collect(db, queue('a', ready=99), queue('b', ready=3))
    expect(rows.nth(1)).to_contain_text('99')


def test_new_dead_letters_wait_until_somebody_wants_to_see_them(db, serve, visit):
    for number in range(30):
        bury(db, message_id=f'old {number}')
    tab = visit(serve() + '/dead?page=2')
    rows = region(tab, 'dead letters').get_by_role('row')
    expect(rows).to_have_count(6)
    first = rows.nth(1).inner_text()
    is_connected(tab)
    for number in range(12):
        bury(db, message_id=f'new {number}')
    expect(tab.get_by_role('button', name='12 new, show them')).to_be_visible()
    assert rows.nth(1).inner_text() == first
    tab.get_by_role('button', name='12 new, show them').click()
    expect(tab.get_by_text('26-42 of 42')).to_be_visible()
    tab.get_by_label('Previous page').click()
    expect(rows.nth(1)).to_contain_text('new 11')


@pytest.mark.parametrize('path', PAGES)
def test_nothing_on_a_page_shifts(db, file, serve, visit, path):
    with changing(file) as writing:
        wait_for_updates(writing, 1)
        tab = visit(serve() + path)
        tab.evaluate(NOTE_SHIFTS)
        is_connected(tab)
        wait_for_updates(writing, 3 * UPDATES)
        assert layout_shift(tab) < GOOD_SHIFT


def test_a_page_stops_and_goes_on(db, serve, visit):
    collect(db, queue('work', ready=1))
    tab = visit(serve())
    is_connected(tab)
    ready = region(tab, 'queues').get_by_role('cell').nth(2)
    tab.get_by_role('button', name='Pause').click()
    expect(tab.get_by_text(re.compile('paused at .* UTC'))).to_be_visible()
    collect(db, queue('work', ready=2))
    seen_now(db, alarms={'memory alarm on a@b': time.time()})
    expect(tab.locator('header .state')).to_contain_text(
        'alarm'
    )  # a later look than the collection
    expect(ready).to_have_text('1')
    tab.get_by_role('button', name='Go on').click()
    expect(ready).to_have_text('2')
    expect(tab.get_by_text(re.compile('paused at'))).to_be_hidden()
    tab.get_by_label('every').select_option('30 s')
    wait_until(lambda: 'pace=30' in tab.evaluate('document.cookie'), 'the cookie')
    tab.reload()
    expect(tab.get_by_label('every')).to_have_value('30')


# ---- what is not known


def icon_of(tab):
    return tab.evaluate('document.querySelector("link[rel~=icon]").href')


def test_while_the_broker_is_away_nothing_is_shown_as_known(db, serve, visit):
    now = time.time()
    collect(db, queue('work', ready=3))
    clients.update(db, now, client('alice', 'guest', 'publishes'))
    base = serve()
    tab = visit(base)
    tile = tab.locator('.tile').first
    expect(tile).to_contain_text('ready, 0 unacked')
    quiet = icon_of(tab)
    database.set_facts(db, state='unavailable', since=now)
    expect(tile).to_contain_text(re.compile('unknown since .* UTC'))
    expect(tile).to_have_class(re.compile('old'))
    expect(tab.locator('header')).to_have_class(re.compile('is-bad'))
    expect(tab).to_have_title('(!) Queues - siamese')
    assert icon_of(tab) != quiet
    tab.goto(base + '/clients')
    alice = tab.get_by_role('row').filter(has_text='alice')
    expect(alice.locator('.state')).to_have_text(re.compile('unknown since'))
    expect(alice.locator('.state')).to_have_class('state off')
    seen_now(db)
    expect(alice.locator('.state')).to_have_text('idle')
    expect(tab).to_have_title('Clients - siamese')


def test_a_silent_monitor_makes_figures_unknown(db, serve, visit):
    now = time.time()
    collect(db, queue('work', ready=3))
    tab = visit(serve())
    expect(tab.locator('.tile').first).to_contain_text('ready')
    database.set_facts(db, monitor={'name': 'm', 'seen': now - 600, 'interval': 5})
    expect(tab.locator('.tile').first).to_contain_text('unknown since')
    expect(tab.locator('header')).to_have_class(re.compile('is-warn'))


@pytest.mark.parametrize(
    'line, colour',
    [('messages that wait in work', 'warn'), ('messages per second of work', 'published')],
)
def test_a_line_is_broken_where_the_broker_was_unavailable(db, serve, visit, line, colour):
    now = time.time()
    for back in [*range(600, 400, -5), *range(385, -1, -5)]:
        moved = 2000 - back
        collect(db, queue('work', ready=3, published=moved, delivered=moved), at=now - back)
    seen_now(db, outages=[[now - 400, now - 386]])
    tab = visit(serve() + '/queue?name=work')
    chart = tab.get_by_role('img', name=line)
    expect(chart).to_contain_text('broker unavailable')
    path = chart.locator(f'path[stroke="var(--{colour})"][fill="none"]').first
    assert path.get_attribute('d').count('M') == 2


def test_a_page_says_that_dashboard_py_is_gone(db, serve, visit):
    tab = visit(serve())
    is_connected(tab)
    serve.running.send(signal.SIGKILL)
    banner = tab.get_by_role('alert')
    expect(banner).to_contain_text('dashboard.py does not answer since')
    wait_until(lambda: banner.bounding_box(), 'it')
    assert banner.bounding_box()['y'] == 0
    expect(tab).to_have_title('(?) Queues - siamese')
    expect(tab.locator('#app')).to_have_css('opacity', '0.5')


def test_a_broker_that_is_stopped_under_the_page(watched, serve, visit, channel, broker):
    base = serve()
    tab = visit(base + '/clients')
    row = tab.get_by_role('row').filter(has_text='monitor.py').first
    state = row.locator('.state')
    expect(state).not_to_have_text(re.compile('unknown'))
    broker.ctl('stop_app')
    try:
        expect(state).to_have_text(re.compile('unknown since'))
        expect(tab.locator('header .state')).to_contain_text('unavailable')
    finally:
        broker.ctl('start_app')
    expect(tab.locator('header .state')).to_contain_text('up')
    expect(row.get_by_role('cell').last).to_contain_text(re.compile(' ago, for '))
    with contextlib.closing(database.open_for_reading(str(watched_file(watched)))) as history:
        assert database.broker(history)['outages']


def test_a_broker_that_is_paused_under_the_page(watched, serve, visit, broker):
    """It takes bytes, and never answers."""
    tab = visit(serve() + '/clients')
    header = tab.locator('header .state')
    row = tab.get_by_role('row').filter(has_text='monitor.py').first
    expect(header).to_contain_text('up')
    expect(row.locator('.state')).not_to_have_text(re.compile('unknown'))
    broker.pause()
    try:
        expect(row.locator('.state')).to_have_text(re.compile('unknown since'))
        expect(header).to_contain_text('unavailable')
        expect(tab).to_have_title('(!) Clients - siamese')
    finally:
        broker.resume()
    expect(header).to_contain_text('up')
    expect(row.locator('.state')).not_to_have_text(re.compile('unknown'))
    expect(tab).to_have_title('Clients - siamese')


def watched_file(running):
    argv = list(map(str, running.process.args))
    return argv[argv.index('--history') + 1]


def test_an_alarm_under_the_page_says_who_is_blocked(watched, serve, visit, url, broker):
    parameters = pika.URLParameters(url)
    parameters.client_properties = {'connection_name': 'blocked one'}
    parameters.blocked_connection_timeout = None
    tab = visit(serve() + '/clients')
    state = tab.locator('header .state')
    with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
        broker.ctl('set_vm_memory_high_watermark', '0.00001')
        try:
            connection.channel().basic_publish('', 'work', b'x')
            expect(state).to_contain_text('alarm, 1 publisher blocked')
            expect(tab).to_have_title('(!) Clients - siamese')
        finally:
            broker.ctl('set_vm_memory_high_watermark', '0.4')
        expect(state).to_contain_text('up')


# ---- the address


def test_sort_page_and_search_survive_reload_and_back(db, serve, visit):
    collect(db, *(queue(f'queue.{number:03}', ready=number) for number in range(60)))
    base = serve()
    tab = visit(base)
    is_connected(tab)
    rows = region(tab, 'queues').get_by_role('row')
    tab.get_by_role('button', name='Queue', exact=True).click()
    expect(rows.nth(1)).to_contain_text('queue.000')
    tab.get_by_label('Next page').click()
    expect(rows.nth(1)).to_contain_text('queue.025')
    expect(tab).to_have_url(base + '/?sort=name&page=2')
    tab.reload()
    expect(rows.nth(1)).to_contain_text('queue.025')
    expect(tab.get_by_role('columnheader', name='Queue')).to_have_attribute(
        'aria-sort', 'ascending'
    )
    tab.go_back()
    expect(rows.nth(1)).to_contain_text('queue.000')
    is_connected(tab)
    tab.get_by_label('Find a queue').fill('.03')
    expect(rows).to_have_count(11)
    expect(tab).to_have_url(re.compile('find=.03'))
    rows.nth(2).get_by_role('link').click()
    expect(tab).to_have_title('queue.031 - siamese')
    tab.go_back()
    expect(rows).to_have_count(11)
    expect(tab.get_by_label('Find a queue')).to_have_value('.03')


def test_an_open_letter_and_a_period_have_an_address(db, serve, visit):
    collect(db, queue('work', published=1))
    bury(db, reason='expired', message_id='first')
    bury(db, reason='rejected', message_id='second')
    base = serve()
    tab = visit(base + '/dead?reason=expired')
    is_connected(tab)
    tab.get_by_role('row').filter(has_text='first').get_by_role('button').click()
    expect(tab.locator('pre.body')).to_be_visible()
    expect(tab).to_have_url(re.compile('letter=1'))
    tab.reload()
    expect(tab.locator('pre.body')).to_be_visible()
    tab.get_by_role('button', name='close').click()
    expect(tab.locator('pre.body')).to_have_count(0)
    expect(tab).to_have_url(base + '/dead?reason=expired')
    tab.goto(base + '/queue?name=work')
    is_connected(tab)
    tab.get_by_role('button', name='Month').click()
    expect(tab).to_have_url(re.compile('period=month'))
    tab.reload()
    expect(tab.get_by_role('button', name='Month')).to_have_attribute('aria-pressed', 'true')


def test_empty_pages_say_what_is_wrong_and_what_to_do(db, serve, visit):
    collect(db, queue('work'))
    bury(db)
    base = serve()
    tab = visit(base + '/?find=zzz')
    expect(tab.get_by_text('No queue contains "zzz"')).to_be_visible()
    tab.goto(base + '/dead?state=requeued')
    expect(tab.get_by_text('No dead letter is like that')).to_be_visible()
    tab.goto(base + '/queue?name=none')
    assert tab.failed.pop().startswith('404')
    expect(tab.get_by_text('This history has no such queue')).to_be_visible()
    expect(tab.locator('.tiles')).to_be_hidden()
    tab.get_by_role('main').get_by_role('link', name='All queues').click()
    expect(tab).to_have_title('Queues - siamese')
    tab.goto(base + '/nowhere')
    assert tab.failed.pop().startswith('404')
    tab.get_by_role('button', name='All queues').click()
    expect(tab).to_have_title('Queues - siamese')


@pytest.mark.parametrize(
    'path, status',
    [('/', 200), ('/queue?name=work', 200), ('/queue?name=none', 404), ('/nowhere', 404)],
)
def test_a_checker_asks_for_the_head_of_a_page(db, serve, path, status):
    collect(db, queue('work'))
    connection = http.client.HTTPConnection(serve().split('//')[1])
    with contextlib.closing(connection):
        connection.request('HEAD', path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b'')


# ---- eyes and screen readers


@pytest.mark.parametrize('path', [*PAGES, *OTHER_PAGES])
def test_axe_finds_nothing_serious(db, file, serve, visit, path):
    for number in range(40):
        collect(db, queue('queue.03', ready=number, published=number), queue(f'q{number}'))
        bury(db, message_id=f'id-{number}')
    clients.update(db, time.time(), client('alice', 'guest', 'publishes'))
    verdicts.insert(db, {'verdict': 'valid', 'exit_status': 0}, '', './audit.py', time.time())
    seen_now(db, alarms={'memory alarm on a@b': time.time()})
    tab = visit(serve() + path)
    tab.failed.clear()
    expect(tab.get_by_role('heading', level=1)).to_have_count(1)
    if 'letter=' in path or 'verdict=' in path:
        expect(tab.locator('pre.body')).to_be_visible()
    tab.wait_for_function(IS_STILL)
    found = Axe().run(tab, WITHIN.get(path)).response['violations']
    shown = [
        (each['id'], each['impact'], [node['html'][:200] for node in each['nodes'][:3]])
        for each in found
        if each['impact'] in SERIOUS
    ]
    assert shown == [], json.dumps(shown, indent=1)
    assert tab.evaluate('document.documentElement.lang').startswith('en')
    assert tab.locator('main, [role=main]').count() == 1


@pytest.mark.parametrize('path', ['/', '/clients', '/dead'])
def test_what_has_the_focus_can_be_seen(db, serve, visit, path):
    collect(db, queue('work', published=1))
    bury(db)
    clients.update(db, time.time(), client('alice', 'guest', 'publishes'))
    tab = visit(serve() + path)
    is_connected(tab)
    for _ in range(20):
        tab.keyboard.press('Tab')
        is_shown = tab.evaluate("""() => {
            const focused = document.activeElement
            const style = getComputedStyle(focused)
            return Boolean(focused.closest('.q-field, body:focus'))
                || style.outlineWidth === '2px'
                || (style.boxShadow !== 'none' && focused.matches('.q-btn'))
        }""")
        name = tab.evaluate('document.activeElement.outerHTML.slice(0, 200)')
        assert is_shown or name.startswith('<body'), name


@pytest.mark.parametrize('width', [390, 1024, 1440])
def test_at_every_width_columns_labels_and_words_are_whole(db, serve, visit, width):
    now = time.time()
    for back in 40 * 86400, 86400, 0:
        collect(db, queue('a.queue', ready=123_456, published=10**9 - back), at=now - back)
    bury(db, queue='a.queue', reason='delivery_limit', message_id='an-id-of-some-length')
    alice = client('alice@north.web:20117', 'guest', 'consumes siamese.blocks')
    for at, present in (now - 4100, alice), (now - 4080, {}), (now - 4000, alice):
        clients.update(db, at, present)
    seen_now(db, alarms={'memory alarm on rabbit@a-node.example.com': now})
    base = serve()
    by_hour = '/queue?name=a.queue&period=hour'
    tab = visit(base + by_hour, viewport={'width': width, 'height': 900})
    paths = (by_hour, '/?period=month', '/clients', '/history?period=hour', '/dead')
    for path in paths:
        tab.goto(base + path)
        expect(tab.locator('tbody tr').first).to_be_visible()
        assert tab.evaluate('document.documentElement.scrollWidth') <= width, path
        assert tab.evaluate(CUT_TABLES) == [], path
        assert cut_labels(tab) == []
        assert broken_words(tab) == []
    if width == 390:
        tab.goto(base + '/clients')
        is_connected(tab)
        tab.get_by_label('Sort by').select_option('Client')
        expect(tab).to_have_url(re.compile('sort=name'))


@pytest.mark.parametrize('path', ['/', '/warnings'])
def test_a_flag_in_what_to_do_is_on_one_line(db, serve, visit, path):
    bury(db)
    tab = visit(serve() + path)
    flag = tab.locator('.whole').filter(has_text='--requeue')
    expect(flag).to_have_text('--requeue')
    for width in range(320, 440, 10):
        tab.set_viewport_size({'width': width, 'height': 800})
        assert flag.evaluate_all(ON_TWO_LINES) == []


@pytest.mark.parametrize('width', [1024, 1280])
def test_a_name_wraps_behind_a_sign(db, serve, visit, width):
    present = {}
    for number in range(9):
        name = f'worker-{number}@north.example.com:20117'
        present.update(client(name, 'guest', 'consumes siamese.blocks'))
    clients.update(db, time.time(), present)
    tab = visit(serve() + '/clients', viewport={'width': width, 'height': 900})
    parts = region(tab, 'clients').locator('td.first span span')
    expect(parts.filter(has_text='north.')).to_have_count(9)
    assert parts.evaluate_all(ON_TWO_LINES) == []


ON_TWO_LINES = """(parts) => parts.filter((part) => {
    const boxes = [...part.getClientRects()].filter((box) => box.width)
    return new Set(boxes.map((box) => box.top)).size > 1
}).map((part) => part.textContent)"""


@pytest.mark.parametrize('path', ['/', '/queue?name=a.queue', '/history', '/clients', '/dead'])
def test_on_paper_it_is_light_and_columns_are_whole(db, serve, visit, path):
    now = time.time()
    for back in 86400, 0:
        collect(db, queue('a.queue', ready=123_456, published=10**9 - back), at=now - back)
    bury(db, queue='a.queue', reason='delivery_limit', message_id='an-id-of-some-length')
    clients.update(db, now, client('alice@north.web:20117', 'guest', 'consumes siamese.blocks'))
    tab = visit(serve() + path, viewport=A4, color_scheme='dark')
    is_connected(tab)
    tab.emulate_media(media='print')
    expect(tab.locator('body')).to_have_css('background-color', 'rgb(244, 246, 248)')
    expect(tab.locator('thead:visible')).not_to_have_count(0)
    expect(tab.get_by_role('button', name='Pause')).to_be_hidden()
    assert tab.evaluate('document.documentElement.scrollWidth') <= A4['width']
    assert tab.evaluate(CUT_TABLES) == []


CUT_TABLES = """() => [...document.querySelectorAll('.scroller')]
    .filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => `${box.scrollWidth} in ${box.clientWidth}`)"""


def cut_labels(tab):
    """Return texts of charts that stick out of them."""
    return tab.evaluate("""() => [...document.querySelectorAll('.chart svg')].flatMap(svg => {
        const box = svg.getBoundingClientRect()
        return [...svg.querySelectorAll('text')].filter(text => {
            const own = text.getBoundingClientRect()
            return own.width && (own.left < box.left - 1 || own.right > box.right + 1)
        }).map(text => text.textContent)
    })""")


def broken_words(tab):
    """Return words of tables that are not on one line."""
    return tab.evaluate("""() => {
        const found = []
        for (const cell of document.querySelectorAll('td:not(.is-wide):not(.is-link)')) {
            const text = cell.querySelector('span')?.firstChild
            if (!text || !cell.offsetParent) continue
            for (const match of text.textContent.matchAll(/\\S+/g)) {
                const range = document.createRange()
                range.setStart(text, match.index)
                range.setEnd(text, match.index + match[0].length)
                if (range.getClientRects().length > 1) found.push(match[0])
            }
        }
        return found
    }""")


# ---- bytes


def test_of_500_queues_little_travels(db, serve, visit):
    tab = visit('about:blank')
    session = tab.context.new_cdp_session(tab)
    session.send('Network.enable')
    received = []
    session.on(
        'Network.webSocketFrameReceived',
        lambda frame: received.append(len(frame['response']['payloadData'])),
    )
    collect(db, *(queue(f'queue.{number:03}') for number in range(524)))
    tab.goto(serve())
    is_connected(tab)
    tile = tab.locator('.tile').first
    expect(tile).to_contain_text('0')
    before = sum(received)
    looks = 5
    for number in range(1, looks + 1):
        moved = number * 100
        rows = [
            queue(f'queue.{place:03}', ready=number, published=moved + place, delivered=moved)
            for place in range(524)
        ]
        collect(db, *rows)
        seen_now(db)
        expect(tile).to_contain_text(f'{number * 524:,}')
    bytes_each = (sum(received) - before) / looks
    assert bytes_each * COLLECTIONS_PER_MINUTE < NETWORK_LIMIT_BYTES
