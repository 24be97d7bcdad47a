"""dashboard.py in a real browser, which reaches nothing but loopback.

Behind it is a real broker that monitor.py watches, or a history that the test writes.
"""

import contextlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

import pika
import psutil
import pytest
import trustme
from playwright.sync_api import expect
from support.colours import contrast
from support.histories import bury, client, collect, queue, seen_now
from support.processes import TEST_TIMEOUT_S, wait_until
from support.queues import drain

from siamese import ROOT
from siamese.monitoring import clients, collector, database, dead_letters, queues, snapshot
from siamese.testbed import proxy
from siamese.web import login, queues_page, tables

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
HOUR = 3600


def log_in(tab, user, password):
    tab.get_by_label('User').fill(user)
    tab.get_by_label('Password').fill(password)
    tab.get_by_role('button', name='Log in').click()


def dead_letter(channel, body, properties=None, queue='mortal'):
    """Publish a message that is dead-lettered after 10 ms."""
    channel.queue_declare(queue, durable=True, arguments={'x-dead-letter-exchange': 'siamese.dlx'})
    properties = properties or pika.BasicProperties()
    properties.expiration = '10'
    channel.basic_publish('', queue, body, properties, mandatory=True)


# ---- with a real broker


def test_the_numbers_on_a_page_update_without_a_reload(watched, serve, visit, channel):
    tab = visit(serve())
    row = tab.get_by_role('row').filter(has_text='work')
    for number in 3, 7:
        for _ in range(number):
            channel.basic_publish('', 'work', b'x', mandatory=True)
        expect(row.get_by_role('cell').nth(2)).to_have_text(str(3 if number == 3 else 10))
    expect(row).to_contain_text('no consumer')
    expect(tab.locator('.tile').first).to_contain_text('10')
    row.get_by_role('link', name='work').click()
    expect(tab.get_by_role('heading', name='work')).to_be_visible()
    expect(tab.get_by_role('region', name='history')).to_contain_text('10')  # published today


def test_a_dead_letter_is_shown_unaltered_and_requeued(watched, serve, visit, channel):
    dead_letter(
        channel,
        EVIL.encode(),
        pika.BasicProperties(
            headers={EVIL: EVIL, ':onclick': 'window.hacked=1'}, app_id=EVIL, message_id='first'
        ),
    )
    dead_letter(channel, b'\xff\xfe<b>', pika.BasicProperties(message_id='second'))
    tab = visit(serve() + '/dead')
    tab.get_by_role('link', name='Log in', exact=True).click()
    log_in(tab, 'guest', 'guest')  # an administrator
    tab.get_by_role('row').filter(has_text='second').get_by_role('button').click()
    body = tab.locator('pre.body')
    expect(body).to_contain_text('ff fe 3c 62 3e')
    expect(tab.get_by_text('not UTF-8 at byte 0')).to_be_visible()
    tab.get_by_role('button', name='Text').click()
    expect(body).to_have_text(r'\xff\xfe<b>')
    tab.get_by_role('button', name='close').click()
    expect(body).to_have_count(0)
    tab.get_by_role('row').filter(has_text='first').get_by_role('button').click()
    expect(body).to_have_text(EVIL)
    expect(tab.locator('dt').filter(has_text='onerror')).to_have_text(EVIL)
    tab.get_by_role('button', name='Requeue this one').click()
    tab.get_by_role('button', name='Requeue', exact=True).click()
    expect(tab.get_by_text(re.compile('1 of 1 dead letter requeued'))).to_be_visible()
    can_be_read(tab)
    ((properties, came),) = wait_until(
        lambda: drain(channel, 'mortal'),
        'the requeued message',
    )
    assert came == EVIL.encode() and properties.message_id == 'first'
    assert tab.evaluate('window.hacked') is None


def test_of_a_letter_with_very_many_headers_the_first_are_shown(db, serve, visit):
    headers = {f'name-{number:05}': number for number in range(19_500)}
    headers['name-00001'] = 'long' * 100_000
    bury(db, message_id='alice-1', properties={'headers': headers})
    tab = visit(serve() + '/dead')
    tab.get_by_role('row').filter(has_text='alice-1').get_by_role('button').click()
    expect(tab.get_by_text('and 19,400 more')).to_be_visible()
    expect(tab.get_by_text('name-00099')).to_be_visible()
    expect(tab.locator('dd').filter(has_text='390,000 characters more')).to_be_visible()
    expect(tab.get_by_text('name-00100')).to_have_count(0)


def test_names_chosen_by_strangers_never_run_as_script(watched, serve, visit, channel, url):
    parameters = pika.URLParameters(url)
    parameters.client_properties = {'connection_name': EVIL}
    channel.queue_declare(EVIL, durable=True)
    channel.basic_publish('', EVIL, b'x', mandatory=True)
    with pika.BlockingConnection(parameters) as connection:
        connection.channel().basic_consume('work', lambda *_: None)
        base = serve('--unread-after', 0)
        tab = visit(base)
        # Wait for the note: it moves what stands below it.
        expect(tab.locator('.note').filter(has_text=EVIL)).to_be_visible()
        tab.get_by_role('row').filter(has_text='onerror').get_by_role('link').click()
        expect(tab.get_by_role('heading', name=EVIL)).to_be_visible()
        expect(tab.locator('.past svg').first).to_contain_text('published')
        for path in '/clients', '/':
            tab.goto(base + path)
            expect(tab.get_by_role('row').filter(has_text=EVIL)).to_be_visible()
        assert tab.evaluate('window.hacked') is None


# ---- the login


def user(broker, name, tag):
    broker.ctl('add_user', name, 'secret')
    broker.ctl('set_user_tags', name, *tag)
    return name


def test_the_broker_decides_who_may_log_in(broker, db, serve, visit):
    bury(db)
    name = user(broker, f'm{time.monotonic_ns()}', ['monitoring'])
    untagged = user(broker, f'n{time.monotonic_ns()}', [])
    base = serve('--login')
    tab = visit(base + '/dead?queue=work')
    for who, password in (untagged, 'secret'), (name, 'wrong'), ('guest', EVIL):
        log_in(tab, who, password)
        expect(tab.get_by_role('alert')).to_contain_text('refuses')
    assert {failed[:4] for failed in tab.failed} == {'403 '}
    tab.failed.clear()
    log_in(tab, name, 'secret')
    expect(tab.get_by_role('row').filter(has_text='work')).to_be_visible()
    expect(tab).to_have_url(base + '/dead?queue=work')
    # This user is not an administrator.
    expect(tab.get_by_role('button', name=re.compile('Requeue'))).to_have_count(0)
    assert tab.context.cookies()[0]['httpOnly'] and tab.context.cookies()[0]['sameSite'] == 'Lax'
    tab.get_by_role('button', name='Log out').click()
    expect(tab.get_by_role('button', name='Log in')).to_be_visible()
    tab.wait_for_load_state()  # its style sheet too: leaving before would count as a failed request
    tab.goto(base)
    expect(tab).to_have_url(re.compile('/login'))
    ended = serve.running.stop()
    assert ended.status == 0 and '1 login, 3 refused' in ended.out
    assert 'secret' not in ended.err + ended.out and 'wrong' not in ended.err


def test_a_session_ends(broker, db, serve, visit):
    base = serve('--login', '--session', 5)
    tab = visit(base)
    log_in(tab, 'guest', 'guest')
    (cookie,) = wait_until(tab.context.cookies, 'a session')
    # The page goes there without a click.
    expect(tab.get_by_text('Your session has ended.')).to_be_visible()
    answer = ask(
        base, '/', {'Cookie': f'{cookie["name"]}={cookie["value"]}', 'Accept': 'text/html'}
    )
    assert answer.status == 303 and answer.getheader('location').startswith('/login')
    assert ask(base, SOCKET, upgrade(Cookie=f'{cookie["name"]}={cookie["value"]}')).status == 403
    tab.failed.clear()  # on a slow machine it ends before all of the page is loaded


def test_without_the_management_api_a_login_says_why_it_fails(db, serve, visit):
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        tab = visit(serve('--login', MANAGEMENT_URL=f'http://127.0.0.1:{closed.getsockname()[1]}'))
        log_in(tab, 'guest', 'guest')
        expect(tab.get_by_role('alert')).to_contain_text('The broker does not answer')
    assert [failed[:4] for failed in tab.failed] == ['503 ']
    tab.failed.clear()


def ask(base, path, headers=(), method='GET'):
    secure = base.startswith('https')
    context = {'context': ssl._create_unverified_context()} if secure else {}
    connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(
        base.split('//')[1], timeout=TEST_TIMEOUT_S, **context
    )
    connection.request(method, path, headers=dict(headers))
    return connection.getresponse()


def upgrade(**headers):
    return {
        'Connection': 'Upgrade',
        'Upgrade': 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
        **headers,
    }


SOCKET = '/_nicegui_ws/socket.io/?EIO=4&transport=websocket'


def test_wrong_passwords_do_not_delay_other_logins(db, serve):
    def send(password, address='127.0.0.1'):
        connection = http.client.HTTPConnection(
            serve.base, timeout=TEST_TIMEOUT_S, source_address=(address, 0)
        )
        user = 'guest' if password == 'guest' else address
        connection.request('POST', '/login', f'user={user}&password={password}')
        return connection

    serve.base = serve('--login').split('//')[1]
    answered = []

    def wait_for_refusal(connection):
        assert connection.getresponse().status == 403
        answered.append(connection)

    wrong = [send('wrong', f'127.0.1.{number}') for number in range(8)]
    honest = send('guest')
    threads = [threading.Thread(target=wait_for_refusal, args=[connection]) for connection in wrong]
    for thread in threads:
        thread.start()
    assert honest.getresponse().status == 303
    before = len(answered)
    for thread in threads:
        thread.join(TEST_TIMEOUT_S)
    # With 4 checked at a time, all of them would otherwise have had to be delayed first.
    assert len(answered) == 8 and before < 8


def test_another_loopback_address_needs_no_login(db, serve, visit):
    base = serve('--host', '127.0.0.2')
    assert base.startswith('http://127.0.0.2:') and ask(base, '/').status == 200
    assert ask(base, '/', {'Host': '192.0.2.1'}).status == 403


def test_requests_of_other_sites_are_refused(db, serve):
    base = serve()
    assert ask(base, '/').status == 200
    assert ask(base, SOCKET, upgrade(Origin=base)).status == 101
    for headers in (
        {'Host': 'evil.example'},
        {'Origin': 'http://evil.example'},
        {'Host': 'evil.example:80'},
    ):
        assert ask(base, '/', headers).status == 403
        assert ask(base, SOCKET, upgrade(**headers)).status == 403
    for headers in {'Host': '['}, {'Origin': 'http://['}:
        assert ask(base, '/', headers).status == 400
        assert ask(base, SOCKET, upgrade(**headers)).status == 403
    assert 'Traceback' not in serve.running.stop().err
    base = serve('--login')
    assert ask(base, '/', {'Accept': 'text/html'}).getheader('location') == '/login?next=%2F'
    assert ask(base, SOCKET, upgrade()).status == 403
    assert ask(base, '/docs').status == ask(base, '/_nicegui/x').status == 401
    for target in (
        'https://evil.example',
        '//evil.example',
        '/\\evil.example',
        'javascript:alert(1)',
    ):
        page = ask(base, f'/login?next={login.quote(target, safe="")}').read().decode()
        assert 'action="/login?next=%2F"' in page
    answer = ask(base, '/login')
    assert "default-src 'self'" in answer.getheader('content-security-policy')
    assert answer.getheader('cache-control') == 'no-store'


def test_with_a_certificate_it_uses_https_and_a_secure_cookie(db, serve, visit, broker, tmp_path):
    authority = trustme.CA()
    authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(
        tmp_path / 'server.pem'
    )
    base = serve('--login', '--certfile', tmp_path / 'server.pem')
    assert base.startswith('https://')
    tab = visit(base, ignore_https_errors=True)
    log_in(tab, 'guest', 'guest')
    expect(tab.get_by_role('heading', name='Queues', exact=True)).to_be_visible()
    assert tab.context.cookies()[0]['secure']


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--host', '0.0.0.0'], 'passwords would cross the network in clear'),
        (['--certfile', '/none'], 'cannot use --certfile'),
        (['--management-url', 'ftp://user:secret@host'], 'bad management URL'),
        (['--session', '0'], '--session'),
    ],
)
def test_bad_flags_are_reported_on_one_line(run, flags, words):
    done = run('dashboard.py', *flags)
    assert (
        done.status == 2
        and words in done.err
        and len(done.err.splitlines()) == 1
        and 'secret' not in done.err
    )


# ---- what the pages show


def test_history_by_hour_day_month_and_year(db, serve, visit):
    now = time.time()
    for number, back in enumerate((800 * 24, 400 * 24, 40 * 24, 30, 2)):  # hours
        collect(
            db,
            queue('work', published=2 * 10**number, delivered=10**number),
            at=now - (back + 0.01) * HOUR,
        )
        collect(
            db,
            queue('work', published=3 * 10**number, delivered=2 * 10**number),
            at=now - back * HOUR,
        )
    bury(db, at=now)
    tab = visit(serve() + '/queue?name=work')
    rows = tab.get_by_role('region', name='history').get_by_role('row')
    bars = tab.locator('.past svg').first
    for period in 'Hour', 'Month', 'Year', 'Day':
        tab.get_by_role('button', name=period, exact=True).click()
        expected = database.by_period(
            db, period.lower(), 'work', queues_page.periods(period.lower(), now)[0]
        )
        expect(rows).to_have_count(len(expected) + 1)
        for shown, row in zip(rows.all()[1:], reversed(expected)):
            expect(shown.get_by_role('cell').nth(1)).to_have_text(f'{row["published"]:,}')
            expect(shown.get_by_role('cell').nth(2)).to_have_text(f'{row["delivered"]:,}')
        expect(rows.nth(1).get_by_role('cell').nth(5)).to_have_text('1')  # expired
        firsts = [queues_page.periods(period.lower(), at)[0] for at in (now, time.time())]
        time_format = queues_page.SPANS[period.lower()].time_format
        labels = [re.escape(time.strftime(time_format, time.gmtime(first))) for first in firsts]
        expect(bars).to_contain_text(re.compile('|'.join(labels)))
    assert len({len(database.by_period(db, period, 'work')) for period in database.PERIODS}) > 1


def test_unroutable_messages_are_in_the_history_of_all_queues(db, serve, visit):
    for returned, dropped in (0, 0), (1234, 5):
        queues.update(
            db,
            time.time(),
            [queue('work', published=returned * 9999, delivered=returned * 9999)],
            1e6,
            unroutable={'returned': returned, 'dropped': dropped},
        )
    base = serve()
    tab = visit(base)
    region = tab.get_by_role('region', name='history')
    cells = region.get_by_role('row').nth(1).get_by_role('cell')
    names = region.get_by_role('columnheader').all_inner_texts()
    assert names[-2:] == ['Returned', 'Dropped']
    expect(cells.nth(9)).to_have_text('1,234')
    expect(cells.nth(10)).to_have_text('5')
    middle = tab.locator('.past .scroller')
    shown, needed = wait_until(
        lambda: middle.evaluate('e => e.clientWidth && [e.clientWidth, e.scrollWidth]'), 'it'
    )
    assert needed <= shown
    tab.goto(f'{base}/queue?name=work')
    expect(tab.get_by_role('region', name='history')).to_contain_text('12,338,766')
    expect(tab.get_by_text('Returned')).to_have_count(0)


def test_the_state_of_the_broker_and_what_is_missing(db, serve, visit):
    collect(db, queue('lonely', ready=5, consumers=0))
    tab = visit(serve())
    state = tab.locator('header .state')
    expect(state).to_have_text('RabbitMQ 3.10.8 up')
    database.set_facts(
        db,
        state='unavailable',
        since=time.time() - 300,
        alarms={'memory alarm on n0@localhost': time.time()},
    )
    expect(state).to_have_text('RabbitMQ 3.10.8 unavailable for 5 min')
    expect(tab.locator('.note.bad').filter(has_text='memory alarm on n0@localhost')).to_be_visible()
    database.set_facts(db, monitor={'name': 'm', 'seen': time.time() - 600, 'interval': 5})
    expect(state).to_have_text('monitor silent')
    expect(tab.locator('.note').first).to_contain_text('./monitor.py --history')
    seen_now(db, alarms={})
    expect(state).to_have_text('RabbitMQ 3.10.8 up')
    expect(tab.locator('.note')).to_have_count(0)
    no_metrics = f'{collector.NO_METRICS}: ...'
    database.set_facts(db, missing=[no_metrics, snapshot.NO_EVENT_EXCHANGE])
    expect(tab.locator('.note.bad')).to_have_text(no_metrics)
    expect(tab.locator('.note')).to_have_count(1)


def test_the_state_of_each_queue(db, serve, visit):
    now = time.time()
    for at, count in (now - 100, 0), (now - 95, 7), (now - 5, 7), (now, 14):
        moved, stuck = {'published': count, 'delivered': count}, {'published': 7 if count else 0}
        collect(
            db,
            queue('moves', **moved),
            queue('lonely', ready=1, consumers=0),
            queue('rests'),
            queue('stuck', ready=stuck['published'], **stuck),
            queue('waits', ready=1, **moved),
            at=at,
        )
    tab = visit(serve())
    for name, state in (
        ('moves', 'active'),
        ('lonely', 'no consumer'),
        ('rests', 'idle'),
        ('stuck', 'not read'),
        ('waits', 'active'),
    ):
        expect(
            tab.get_by_role('row').filter(has_text=name).get_by_role('cell').nth(1)
        ).to_have_text(state)


def test_requeuing_does_not_wait_for_an_unavailable_broker(db, serve, visit, file):
    bury(db, encoded=b'\0\0')
    tab = visit(serve(AMQP_URL='amqp://127.0.0.1:1') + '/login?next=%2Fdead')
    log_in(tab, 'guest', 'guest')
    tab.get_by_role('button', name='Requeue 1').click()
    tab.get_by_role('button', name='Requeue', exact=True).click()
    expect(tab.get_by_text(re.compile('0 of 1 dead letter requeued'))).to_be_visible()
    can_be_read(tab)
    assert dead_letters.ids(db, 'all') == [1]


def test_while_it_requeues_the_button_is_disabled_and_stopping_stops_monitor_py(
    db, serve, visit, url
):
    bury(db)
    with proxy.in_front_of(url) as between:
        between.hold()
        tab = visit(serve(AMQP_URL=between.url) + '/login?next=%2Fdead')
        log_in(tab, 'guest', 'guest')
        tab.get_by_role('button', name='Requeue 1').click()
        tab.get_by_role('button', name='Requeue', exact=True).click()
        expect(tab.get_by_role('button', name='Requeue 1')).to_be_disabled()
        expect(tab.get_by_text('requeuing ...')).to_be_visible()
        can_be_read(tab)
        wait_until(lambda: between.accepted, 'monitor.py')
        (sending,) = psutil.Process(serve.running.process.pid).children()
        done = serve.running.stop()
        assert done.status == 0 and 'Traceback' not in done.err and not sending.is_running()
    assert dead_letters.ids(db, 'all') == [1]


def test_a_second_signal_ends_it_without_a_traceback(db, serve, visit):
    tab = visit(serve())
    expect(tab.get_by_text('No queues yet')).to_be_visible()
    for number in signal.SIGINT, signal.SIGTERM:  # two of a kind may arrive as one
        serve.running.send(number)
    done = serve.running.end()
    assert 'Traceback' not in done.err and 'stopped: SIG' in done.out and done.status == 0


def test_without_a_history_it_says_what_to_do_and_recovers(file, serve, visit):
    tab = visit(serve())
    expect(tab.locator('.main > .empty')).to_contain_text('monitor.py')
    expect(tab.locator('header .state')).to_have_text('no history')
    expect(tab.get_by_text('No queues yet')).to_be_hidden()
    with contextlib.closing(database.open_for_writing(str(file))) as db:
        seen_now(db)
        expect(tab.get_by_text('No queues yet')).to_be_visible()
        for path, words in ('/dead', 'No dead letters'), ('/clients', 'No clients yet'):
            tab.goto(tab.url.split('/', 3)[0] + '//' + tab.url.split('/', 3)[2] + path)
            expect(tab.get_by_text(words)).to_be_visible()
        collect(db, queue('work'))
        clients.update(db, time.time(), client('alice', 'guest', 'publishes'))
        expect(tab.get_by_role('row').filter(has_text='alice')).to_be_visible()


def test_clients_and_their_interruptions(db, serve, visit):
    now = time.time()
    alice = client('alice', 'guest', 'publishes')
    for at, present in (now - 400, alice), (now - 300, {}), (now - 200, alice):
        clients.update(db, at, present)
    cells = (
        visit(serve() + '/clients').get_by_role('row').filter(has_text='alice').get_by_role('cell')
    )
    expect(cells.nth(7)).to_have_text('1')
    expect(cells.nth(8)).to_have_text(re.compile('^5 min ago'))


def test_500_queues_are_paged_found_and_sorted(db, serve, visit):
    collect(db, *(queue(f'queue.{number:03}', ready=number * 7 % 500) for number in range(500)))
    tab = visit(serve())
    rows = tab.get_by_role('region', name='queues').get_by_role('row')
    expect(rows).to_have_count(tables.SIZES[0] + 1)
    expect(rows.nth(1).get_by_role('cell').nth(2)).to_have_text('499')
    # Clicks before that are lost.
    tab.wait_for_function('window.socket && window.socket.connected')
    tab.get_by_role('button', name='Queue', exact=True).click()
    expect(rows.nth(1)).to_contain_text('queue.000')
    tab.get_by_label('Next page').click()
    expect(tab.get_by_text('26-50 of 500')).to_be_visible()
    tab.get_by_label('Find a queue').fill('321')
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text('queue.321')


def test_dead_letters_are_found_by_queue_reason_and_text(db, serve, visit):
    for number in range(60):
        bury(
            db,
            queue=f'queue {number % 3}',
            reason=('expired', 'rejected')[number % 2],
            message_id=f'id-{number}',
        )
    tab = visit(serve() + '/dead?queue=queue%201')
    rows = tab.get_by_role('region', name='dead letters').get_by_role('row')
    expect(rows).to_have_count(21)
    tab.get_by_role('combobox', name='Reason').click()
    tab.get_by_role('option', name='rejected').click()
    expect(rows).to_have_count(11)
    tab.get_by_label('Find a message').fill('ID-37')
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text('id-37')


def test_requeue_is_offered_only_if_the_table_shows_all_that_it_requeues(db, serve, visit):
    for number in range(5):
        bury(db, reason=('expired', 'rejected')[number % 2], message_id=f'id-{number}')
    dead_letters.mark_requeued(db, [1], time.time())
    tab = visit(serve() + '/login?next=%2Fdead')
    log_in(tab, 'guest', 'guest')
    again, rows = tab.get_by_role('button', name='Requeue 4'), tab.get_by_role('row')
    expect(again).to_be_visible()
    for label, narrow, wide in (
        ('Reason', 'rejected', 'any reason'),
        ('State', 'requeued', 'waiting'),
    ):
        for option, count in (narrow, 1 if label == 'State' else 2), (wide, 4):
            tab.get_by_role('combobox', name=label).click()
            tab.get_by_role('option', name=option).click()
            expect(rows).to_have_count(count + 1)
            expect(again).to_be_visible(visible=option == wide)
    tab.get_by_label('Find a message').fill('id-3')
    expect(again).to_be_hidden()
    tab.get_by_label('Find a message').fill('')
    expect(again).to_be_visible()


def names_of(tab):
    """Return what a screen reader would not be able to name on a page."""
    return tab.evaluate("""() => {
        const selector = 'button, a, input, [role=img]'
        const hasName = e => (e.innerText || '').trim()
            || e.getAttribute('aria-label')
            || (e.labels || []).length
        return [...document.querySelectorAll(selector)]
            .filter(e => e.offsetParent && !hasName(e))
            .map(e => e.outerHTML.slice(0, 200))
    }""")


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_on_a_phone_nothing_scrolls_sideways(db, serve, visit, scheme):
    long = 'siamese.' + 'averylongname' * 12
    bury(
        db,
        queue=long,
        message_id='m' * 150,
        sender='s' * 90,
        body=b'x' * 500,
        properties={'headers': {'h' * 100: 'v' * 400}, 'app_id': 's' * 90},
    )
    collect(db, queue(long, ready=123_456_789, consumers=0, published=10**9), queue('short'))
    clients.update(db, time.time(), client(long, 'u' * 80, f'consumes {long}'))
    base = serve('--unread-after', 0)
    tab = visit(base, viewport={'width': 390, 'height': 844}, color_scheme=scheme)
    for path in '/', f'/queue?name={long}', '/clients', '/dead', '/login':
        tab.goto(base + path)
        expect(tab.get_by_text(long if path != '/login' else 'Log in').first).to_be_visible()
        assert tab.evaluate('document.documentElement.scrollWidth') <= 390, path
        assert names_of(tab) == []
        assert tab.evaluate('getComputedStyle(document.body).backgroundColor') == (
            'rgb(15, 20, 25)' if scheme == 'dark' else 'rgb(244, 246, 248)'
        )
    tab.goto(base + '/dead')
    tab.get_by_role('row').filter(has_text=long[:50]).get_by_role('button').click()
    expect(tab.locator('pre.body')).to_be_visible()
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390
    assert names_of(tab) == []


def test_a_long_name_pushes_no_column_out_of_view(db, serve, visit):
    long = 'q' * 250
    bury(db, queue=long, sender=long, message_id=long)
    collect(db, queue(long, ready=123_456_789, published=10**9), queue('short'))
    clients.update(db, time.time(), client(long, long, f'consumes {long}'))
    base = serve()
    tab = visit(base)
    for path, name in ('/', 'queues'), ('/dead', 'dead letters'), ('/clients', 'clients'):
        tab.goto(base + path)
        expect(tab.get_by_text(long).first).to_be_visible()
        last = (
            tab.get_by_role('region', name=name).get_by_role('row').nth(1).get_by_role('cell').last
        )
        right = wait_until(
            lambda last=last: last.evaluate('e => e.getBoundingClientRect().right'), 'the layout'
        )
        assert right <= 1280, path


def test_the_colours_chosen_are_kept(db, serve, visit):
    tab = visit(serve(), color_scheme='light')
    for chosen, background in ('light', 'rgb(244, 246, 248)'), ('dark', 'rgb(15, 20, 25)'):
        tab.get_by_role('button', name='colours').click()
        expect(tab.get_by_role('button', name=f'colours: {chosen}')).to_be_visible()
        expect(tab.locator('body')).to_have_css('background-color', background)
    tab.reload()
    expect(tab.get_by_role('button', name='colours: dark')).to_be_visible()
    expect(tab.locator('body')).to_have_css('background-color', background)


def can_be_read(tab):
    """Assert that notifications and their buttons can be read, in light and in dark."""
    found = tab.evaluate("""() => ['light', 'dark'].flatMap(scheme => {
        document.body.style.colorScheme = scheme
        const selector = '.q-notification, .q-notification button'
        const digits = number => (+number).toString(16).padStart(2, '0')
        const hex = text => '#' + text.match(/[0-9]+/g).map(digits).join('')
        return [...document.querySelectorAll(selector)].map(e => {
            const ground = e.closest('.q-notification')
            return [
                hex(getComputedStyle(e).color),
                hex(getComputedStyle(ground).backgroundColor),
            ]
        })
    })""")
    assert len({ground for _, ground in found}) == 2  # light and dark
    assert all(contrast(*pair) >= 4.5 for pair in found), found


# ---- without a browser


def test_without_nicegui_it_says_what_to_install():
    code = (
        'import sys; sys.modules["nicegui"] = None; '
        'import dashboard; from siamese import script; '
        'script.run(dashboard.main)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        encoding='utf-8',
        timeout=TEST_TIMEOUT_S,
    )
    assert done.returncode == 3 and 'pip install -r requirements/dashboard.txt' in done.stderr
    assert 'Traceback' not in done.stderr


def test_dashboard_sh_ends_on_one_signal_with_everything_it_started(start, broker):
    running = start('demos/dashboard.sh', '--port', 0, MANAGEMENT_URL=broker.management_url)
    running.wait_for(' shows ', running.out)
    begun = psutil.Process(running.process.pid).children(recursive=True)
    assert sum('.py' in ' '.join(process.cmdline()) for process in begun) == 11
    running.send(signal.SIGTERM)
    left = psutil.wait_procs(begun, TEST_TIMEOUT_S)[1]
    for process in left:
        process.kill()
    assert not left and running.end().status == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_it_starts_no_process_to_serve_pages_and_leaves_none_behind(serve, number):
    with urllib.request.urlopen(serve()) as answer:
        assert answer.status == 200
    process = psutil.Process(serve.running.process.pid)
    begun = process.children(recursive=True)
    assert serve.running.stop(number).status == 0
    assert not begun  # a fork server would end by itself, a moment later


def test_a_taken_port_is_reported_on_one_line(run, serve):
    base = serve()
    done = run('dashboard.py', '--port', base.rpartition(':')[2])
    assert (
        done.status == 3
        and 'cannot listen at 127.0.0.1' in done.err
        and 'Traceback' not in done.err
    )
