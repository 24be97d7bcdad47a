"""What the dashboard shows beside figures of now: the past, verdicts, set-up, what was seen."""

import json
import pathlib
import re
import time

from playwright.sync_api import expect
from support.histories import bury, client, collect, queue, seen_now

from siamese.monitoring import clients, database, dead_letters, details, verdicts

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
HOUR = 3600
DAY = 24 * HOUR


def region(tab, name):
    return tab.get_by_role('region', name=name)


def is_connected(tab):
    tab.wait_for_function('window.socket && window.socket.connected')


def log_in(tab, user='guest', password='guest'):
    tab.get_by_label('User').fill(user)
    tab.get_by_label('Password').fill(password)
    tab.get_by_role('button', name='Log in').click()


def past(db, names=('a', '=1+1', EVIL), days=3):
    """Store a history of some days; the queue `a` has the most errors on the last of them."""
    now = time.time()
    collect(db, *(queue(name) for name in names), at=now - days * DAY)
    for day in range(1, days):
        at = now - (days - day) * DAY
        figures = {'published': day * 1000, 'delivered': day * 900, 'redelivered': day}
        collect(db, *(queue(name, ready=day, **figures) for name in names), at=at)
    for number in range(7):
        bury(db, queue=names[0], at=now - DAY, reason=('expired', 'rejected')[number % 2])
    seen_now(db)


# ---- the history of all queues


def test_the_history_of_all_queues_is_one_click_from_the_front(db, serve, visit):
    past(db)
    tab = visit(serve())
    is_connected(tab)
    tab.get_by_role('link', name='History', exact=True).click()
    table = region(tab, 'every queue in every period')
    rows = table.locator('tbody tr')
    expect(rows).to_have_count(6)
    expect(rows.nth(0)).to_contain_text('a')
    expect(rows.nth(0).get_by_role('cell').nth(5)).to_have_text('7')  # errors of all reasons
    is_connected(tab)
    tab.get_by_role('button', name='Published', exact=True).click()
    expect(rows.nth(0).get_by_role('cell').nth(2)).to_have_text('1,000')
    expect(tab).to_have_url(re.compile('sort=-published'))
    tab.get_by_role('button', name='Year', exact=True).click()
    expect(rows.nth(0).get_by_role('cell').nth(1)).to_have_text(re.compile(r'^20\d\d$'))
    tab.get_by_placeholder('Find a queue').fill('=1+')
    expect(rows.filter(has_not_text='=1+1')).to_have_count(0)
    expect(table).to_contain_text('=1+1')
    expect(tab.get_by_role('img', name='errors by reason')).to_be_visible()
    assert tab.evaluate('window.hacked') is None


def test_the_range_of_the_history_can_be_chosen_and_survives_a_reload(db, serve, visit):
    past(db)
    tab = visit(serve() + '/history')
    is_connected(tab)
    rows = region(tab, 'every queue in every period').locator('tbody tr')
    expect(rows).to_have_count(6)
    day = time.strftime('%Y-%m-%d', time.gmtime(time.time() - 2 * DAY))
    tab.get_by_label('To', exact=True).fill(day)
    expect(rows).to_have_count(3)
    expect(tab).to_have_url(re.compile(day))
    tab.reload()
    expect(rows).to_have_count(3)
    expect(tab.get_by_label('To', exact=True)).to_have_value(day)
    tab.goto(tab.url.replace(day, '1999-01-01'))
    expect(tab.get_by_text(re.compile('Nothing from .* to 1999-01-01'))).to_be_visible()
    tab.goto(tab.url.replace('1999-01-01', 'garbage'))
    expect(rows).to_have_count(6)


def test_days_that_are_chosen_while_the_page_refreshes_stay_chosen(db, serve, visit):
    """What was read for the days of before does not bring these back."""
    past(db)
    tab = visit(serve() + '/history')
    is_connected(tab)
    rows = region(tab, 'every queue in every period').locator('tbody tr')
    expect(rows).to_have_count(6)
    tab.get_by_role('button', name='Published', exact=True).evaluate(
        """button => {
            window.clicks = 0
            const clicking = setInterval(() => {
                button.click()
                if (++window.clicks == 100) clearInterval(clicking)
            }, 10)
        }"""
    )
    day = time.strftime('%Y-%m-%d', time.gmtime(time.time() - 2 * DAY))
    tab.get_by_label('To', exact=True).fill(day)
    tab.wait_for_function('window.clicks == 100')
    expect(rows).to_have_count(3)
    expect(tab).to_have_url(re.compile(day))
    expect(tab.get_by_label('To', exact=True)).to_have_value(day)


def test_the_csv_of_the_page_is_that_of_the_report(db, file, serve, visit, run, tmp_path):
    past(db)
    tab = visit(serve() + '/history')
    for period in 'day', 'month', 'year', 'hour':
        is_connected(tab)
        tab.get_by_role('button', name=period.capitalize(), exact=True).click()
        link = tab.get_by_role('link', name='Download as CSV')
        pattern = r'csv\?$' if period == 'day' else f'period={period}'
        expect(link).to_have_attribute('href', re.compile(pattern))
        with tab.expect_download() as download:
            link.click()
        target = tmp_path / f'{period}.csv'
        flags = ('--report', period, '--csv', target, '--history', file)
        if period == 'hour':  # the page shows two days, as the report does, from another second on
            flags += ('--since', '2000-01-01')
        assert run('monitor.py', *flags).status == 0
        shown = pathlib.Path(download.value.path()).read_bytes()
        expected = target.read_bytes()
        if period == 'hour':
            assert set(shown.splitlines()) <= set(expected.splitlines())
        else:
            assert shown == expected
        assert b"'=1+1" in shown  # no formula


def test_the_csv_takes_a_login_where_looking_does(db, serve, visit, browser):
    past(db)
    base = serve('--login')
    tab = visit(base + '/login')
    answer = tab.evaluate("fetch('/history.csv').then(r => r.url + ' ' + r.status)")
    tab.failed.clear()
    assert answer.endswith(' 401') or '/login' in answer


# ---- verdicts


def verdict(db, status, text, **books):
    summary = {'verdict': text, 'exit_status': status, **books}
    place = '127.0.0.1:5672/%2F'
    verdicts.insert(db, summary, place, './audit.py runs/run.jsonl', time.time())


def test_verdicts_are_shown_with_books_and_how_to_repeat_them(db, serve, visit):
    verdict(db, 0, 'valid: all there', attempted=3154, lost=[])
    verdict(db, 1, f'invalid: {EVIL}', attempted=7, lost=['a-1', EVIL], corrupt=[])
    verdict(db, 3, 'unknown: no consumer')
    base = serve()
    tab = visit(base + '/verdicts')
    is_connected(tab)
    rows = region(tab, 'verdicts').locator('tbody tr')
    expect(rows).to_have_count(3)
    states = rows.locator('.state').all_inner_texts()
    assert states == ['not known', 'failed', 'passed']
    tab.get_by_role('button', name='failed', exact=True).click()
    expect(rows).to_have_count(1)
    rows.get_by_role('button').click()
    dialog = tab.get_by_role('dialog')
    expect(dialog).to_contain_text('./audit.py runs/run.jsonl')
    expect(dialog).to_contain_text('2: a-1, <img')
    expect(dialog).to_contain_text('corrupt')  # 0 of them
    expect(tab).to_have_url(re.compile('verdict=2'))
    tab.reload()
    expect(dialog).to_contain_text('invalid: <img')
    assert tab.evaluate('window.hacked') is None


def test_without_verdicts_the_page_says_how_to_store_some(db, file, serve, visit):
    tab = visit(serve() + '/verdicts')
    expect(tab.get_by_text('No verdicts yet')).to_be_visible()
    expect(tab.get_by_text(f'with --history {file}')).to_be_visible()


def lines_of(by, *facts):
    """Return lines of a ledger, as text."""
    common = {'by': by, 'run': f'cafe-{by}', 'epoch': 1}
    return ''.join(json.dumps({**common, **each}) + '\n' for each in facts)


def test_ledgers_that_grow_have_a_verdict_and_the_time_up_to_which_it_holds(
    db, serve, visit, tmp_path
):
    name = {'id': f'alice-1 {EVIL}', 'attempt': 1}
    body = {**name, 'digest': 'd'}
    opened = {'at': 1_790_000_000, 'event': 'connected', 'broker': 'b', 'queue': 'q'}
    runs = tmp_path / 'runs'
    runs.mkdir()
    tab = visit(serve('--ledger', runs) + '/verdicts')
    card = region(tab, 'ledgers')
    expect(card).to_contain_text('no line was read yet')
    (runs / 'alice.jsonl').write_text(
        lines_of(
            'alice',
            opened,
            {'at': 1_790_000_001, 'event': 'attempted', **body},
            {'at': 1_790_000_002, 'event': 'confirmed', **name},
            {'at': 1_790_000_003, 'event': 'closed'},
        )
    )
    expect(card).to_contain_text('2026-09-21 14:13:23 UTC')
    with open(runs / 'carol.jsonl', 'a') as carol:
        carol.write(lines_of('carol', {**opened, 'at': 1_790_000_003}))
        carol.flush()
        expect(card).to_contain_text('1 attempted, 1 confirmed, 0 acked, 1 waiting')
        took = {'event': 'acked', 'redelivered': False, **body}
        carol.write(lines_of('carol', {'at': 1_790_000_004, **took}))
        carol.flush()
        expect(card).to_contain_text('2026-09-21 14:13:24 UTC')
        expect(card).to_contain_text('1 acked, 0 waiting')
        expect(card).to_contain_text('no fault so far')
        carol.write(lines_of('carol', {'at': 1_790_000_005, **took, 'digest': 'x'}))
        carol.flush()
        expect(card.locator('.state')).to_have_text('failed')
        expect(card).to_contain_text(f'corrupt: alice-1 {EVIL}')
        carol.write(lines_of('carol', {'at': 1_790_000_006, 'event': 'closed'}))
    expect(card).to_contain_text('invalid: 1 corrupt, 1 duplicated')
    assert tab.evaluate('window.hacked') is None


# ---- now, and how a queue is set up


def test_what_waits_is_a_line_over_time(db, serve, visit):
    now = time.time()
    for number in range(40):
        ready = 5 * number
        rows = [queue('work', ready=ready, unacked=2, published=ready), queue('b', ready=1)]
        collect(db, *rows, at=now - 5 * (40 - number))
    seen_now(db)
    base = serve()
    for path, most in ('/', 196), ('/queue?name=work', 195):
        tab = visit(base + path)
        for name in 'messages that wait', 'messages per second':
            chart = tab.get_by_role('img', name=re.compile(name))
            expect(chart.locator('svg')).to_be_visible()
        data = tab.evaluate(
            """() => {
              const chart = document.querySelector('.lines .chart');
              const shown = getElement(Number(chart.id.slice(1))).chart.getOption();
              return Math.max(...shown.series[0].data.map(point => point[1]));
            }"""
        )
        assert data == most


def test_large_figures_beside_a_chart_are_short(db, serve, visit):
    for published in 0, 3 * 10**9:
        collect(db, queue('work', published=published))
    tab = visit(serve())
    expect(tab.get_by_role('img', name='published and delivered')).to_contain_text('3B')


def test_a_day_can_be_looked_at(db, serve, visit):
    now = time.time()
    for number in range(30):
        collect(db, queue('work', ready=number, published=number), at=now - 1200 * (30 - number))
    seen_now(db)
    tab = visit(serve() + '/queue?name=work&span=1+day')
    is_connected(tab)
    expect(tab.get_by_role('button', name='1 day')).to_have_attribute('aria-pressed', 'true')
    tab.get_by_role('button', name='8 h').click()
    expect(tab).to_have_url(re.compile('span=8'))


def test_the_last_minute_can_be_looked_at(db, serve, visit):
    now = time.time()
    for number in range(90):
        collect(db, queue('work', ready=number), at=now - 2 * (90 - number))
    seen_now(db)
    tab = visit(serve())
    is_connected(tab)
    tab.get_by_role('button', name='1 min').click()
    expect(tab).to_have_url(re.compile('span=1.min'))
    chart = tab.get_by_role('img', name='messages that wait in all queues')
    expect(chart.get_by_text(re.compile('^[0-9]{2}:[0-9]{2}:[0-9]{2}$')).first).to_be_visible()
    took_ms = tab.evaluate(
        """() => {
          const chart = document.querySelector('.lines .chart');
          const {xAxis} = getElement(Number(chart.id.slice(1))).chart.getOption();
          return xAxis[0].max - xAxis[0].min;
        }"""
    )
    assert took_ms == 60_000


def test_the_set_up_of_a_queue_and_its_consumers(watched, serve, visit, channel, file):
    arguments = {'x-dead-letter-exchange': 'siamese.dlx', 'x-max-length': 9}
    channel.queue_declare('set up', durable=True, arguments=arguments)
    channel.exchange_declare('animals', 'topic')
    channel.queue_bind('set up', 'animals', 'cat.#')
    channel.basic_qos(prefetch_count=17)
    channel.basic_consume('set up', lambda *_: None, consumer_tag='reader')
    tab = visit(serve())
    region(tab, 'queues').get_by_role('link', name='set up').click()
    card = tab.locator('.card').filter(has=tab.get_by_role('heading', name='Set-up'))
    expect(card.locator('dd').first).to_have_text('durable')
    expect(card).to_contain_text('x-max-length = 9')
    expect(card).to_contain_text('siamese.dlx, with their own routing keys')
    expect(region(tab, 'bindings')).to_contain_text('cat.#')
    expect(region(tab, 'consumers')).to_contain_text('17')
    link = region(tab, 'consumers').get_by_role('link')
    name = link.inner_text()
    link.click()
    expect(region(tab, 'clients').locator('tbody tr')).to_have_count(1)
    expect(region(tab, 'clients')).to_contain_text(name)
    tab.goto(tab.url.partition('/clients')[0] + '/')
    expect(region(tab, 'nodes')).to_contain_text('runs')
    expect(tab.locator('.tile').filter(has_text='Memory')).to_contain_text('%')
    expect(tab.locator('.tile').filter(has_text='Disk')).to_contain_text('B')


def test_names_in_the_set_up_never_run_as_script(db, serve, visit):
    collect(db, queue(EVIL))
    binding = details.Binding(source=EVIL, routing_key=EVIL, arguments={EVIL: EVIL})
    consumer = details.Consumer(client=EVIL, user=EVIL, tag=EVIL, prefetch=0, acknowledges=None)
    found = details.details_of({EVIL: EVIL}, EVIL, {EVIL: EVIL}, [binding], [consumer])
    details.update(db, [(EVIL, found)])
    clients.update(db, time.time(), client(EVIL, EVIL, 'publishes'))
    tab = visit(
        serve() + '/queue?name=%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D1%22%3E'
        '%3Cscript%3Ewindow.hacked%3D1%3C%2Fscript%3E'
    )
    expect(region(tab, 'consumers')).to_contain_text(EVIL)
    expect(region(tab, 'bindings')).to_contain_text('onerror')
    assert tab.evaluate('window.hacked') is None


def test_the_age_of_flowing_messages_is_not_the_interval_of_the_counters(db, serve, visit):
    base = serve()
    now = time.time()
    seen_now(db)
    database.set_facts(db, monitor={'name': 'm', 'seen': now, 'interval': 5})
    for number in range(4):
        published = 1000 * number
        collect(db, queue('flow', unacked=20, published=published), at=now - 5 * (3 - number))
    tab = visit(base + '/queue?name=flow')
    oldest = tab.locator('.tile').filter(has_text='Oldest message')
    expect(oldest).to_contain_text('< 10 s')
    expect(oldest).to_contain_text('is unacked')


# ---- dead letters that somebody has seen


def test_dead_letters_are_marked_as_seen_and_the_badge_counts_the_others(db, serve, visit):
    for number in range(5):
        bury(db, reason=('expired', 'rejected')[number % 2], message_id=f'id-{number}')
    base = serve()
    tab = visit(base + '/dead')
    badge = tab.get_by_role('link', name='Dead letters')
    expect(badge).to_have_text('Dead letters 5')
    expect(tab.get_by_role('button', name=re.compile('as seen'))).to_have_count(0)
    tab.goto(base + '/login?next=%2Fdead')
    log_in(tab)
    is_connected(tab)
    tab.get_by_role('row').filter(has_text='id-0').get_by_role('button').click()
    tab.get_by_role('dialog').get_by_role('button', name='Mark as seen').click()
    expect(tab.get_by_role('dialog')).to_contain_text('UTC, by guest')
    tab.get_by_role('dialog').get_by_role('button', name='close').click()
    expect(badge).to_have_text('Dead letters 4')
    expect(tab.get_by_role('row').filter(has_text='id-0')).to_contain_text('seen')
    tab.get_by_role('combobox', name='Reason').click()
    tab.get_by_role('option', name='rejected').click()
    tab.get_by_role('button', name='Mark 2 as seen').click()
    expect(badge).to_have_text('Dead letters 2')
    assert [row['seen_by'] for row in dead_letters.find(db, reason='rejected')[0]] == ['guest'] * 2
    assert dead_letters.find(db, requeued=False, limit=0)[1] == 5  # they stay


def test_dead_letters_are_turned_over_one_by_one(db, serve, visit):
    for number in range(1, 6):
        bury(db, queue=('odd', 'even')[number % 2 == 0], body=f'body {number}'.encode())
    tab = visit(serve() + '/dead?queue=odd')
    is_connected(tab)
    tab.get_by_role('row').nth(1).get_by_role('button').click()
    dialog = tab.get_by_role('dialog')
    body = dialog.locator('pre.body')
    expect(body).to_have_text('body 5')
    expect(dialog.get_by_role('button', name='Newer')).to_be_disabled()
    for number in 3, 1:
        dialog.get_by_role('button', name='Older').click()
        expect(body).to_have_text(f'body {number}')
    expect(dialog.get_by_role('button', name='Older')).to_be_disabled()
    expect(tab).to_have_url(re.compile('letter=1'))
    dialog.get_by_role('button', name='Newer').click()
    expect(body).to_have_text('body 3')


def test_the_time_of_the_browser_stands_beside_utc(db, serve, visit):
    bury(db, at=1_795_521_600)  # 12:00 UTC
    tab = visit(serve() + '/dead', timezone_id='Asia/Kolkata')
    row = tab.get_by_role('row').nth(1)
    expect(row).to_contain_text('2026-11-24 12:00:00')
    expect(row).to_contain_text('2026-11-24 17:30:00')
    is_connected(tab)
    row.get_by_role('button').click()
    expect(tab.get_by_role('dialog')).to_contain_text('2026-11-24 17:30:00 Asia/')


def test_a_history_that_cannot_be_written_says_so(db, file, serve, visit):
    bury(db)
    base = serve()
    tab = visit(base + '/login?next=%2Fdead')
    log_in(tab)
    is_connected(tab)
    button = tab.get_by_role('button', name='Mark 1 as seen')
    expect(button).to_be_visible()
    db.execute('PRAGMA user_version = 99')
    button.dispatch_event('click')  # the page itself may be hidden by now
    expect(tab.locator('.q-notification')).to_contain_text('is of version 99')
