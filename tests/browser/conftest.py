"""A real browser, which reaches nothing but loopback, and dashboard.py for it."""

import contextlib
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from support.histories import seen_now
from support.processes import TEST_TIMEOUT_S, wait_until

from siamese.monitoring import database

expect.set_options(timeout=TEST_TIMEOUT_S * 1000)


@pytest.fixture(scope='session')
def browser():
    program = next(
        filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
    )
    assert program, 'there is no Chromium: ./tools/setup.sh browser'
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program,
            args=['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'],
        )
        yield running
        running.close()


def is_reconnect(request):
    """Return whether a page asks if its server, which has ended, is back."""
    asked = re.search(r'/(_nicegui_ws/|dashboard\.js$)', request.url)
    return request.failure == 'net::ERR_CONNECTION_REFUSED' and asked


def is_left_behind(request):
    """Return whether a page was left while this was on its way.

    Only the browser aborts: a server that fails answers with a status, or not at all.
    """
    return request.failure == 'net::ERR_ABORTED'


def is_local(url):
    return re.match(r'(http|ws)s?://127\.0\.0\.1:|data:|blob:', url)


def note_failures(tab):
    """Keep in `failed` of a tab what fails.

    These are requests that failed, were refused or left loopback, and errors
    of scripts.
    """
    tab.failed = []

    def on_request(request):
        if not is_local(request.url):
            tab.failed.append(f'leaves loopback: {request.url}')

    def on_failure(request):
        if not is_reconnect(request) and not is_left_behind(request):
            tab.failed.append(f'{request.failure} {request.url}')

    def on_response(answer):
        if answer.status >= 400:
            tab.failed.append(f'{answer.status} {answer.url}')

    tab.on('request', on_request)
    tab.on('requestfailed', on_failure)
    tab.on('response', on_response)
    tab.on('pageerror', lambda error: tab.failed.append(f'script: {error}'))


@pytest.fixture
def visit(browser):
    """A function that opens a URL in a new browser context.

    At the end of the test nothing may have failed; see note_failures().
    """
    visits = []

    def visit(url, **options):
        size = {'width': 1280, 'height': 900}
        context = browser.new_context(**{'viewport': size, **options})
        tab = context.new_page()
        tab.set_default_timeout(TEST_TIMEOUT_S * 1000)
        note_failures(tab)
        visits.append((context, tab))
        tab.goto(url)
        return tab

    yield visit
    failed = [tab.failed for _, tab in visits]
    for context, _ in visits:
        context.close()
    assert failed == [[] for _ in visits]


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'siamese.db'


@pytest.fixture
def db(file):
    """A history that the test writes in place of monitor.py."""
    with contextlib.closing(database.open_for_writing(str(file))) as db:
        seen_now(db)
        yield db


@pytest.fixture
def serve(start, file, broker):
    """A function that starts dashboard.py; it returns its URL."""

    def serve(*flags, **env):
        running = start(
            'dashboard.py',
            '--port',
            0,
            '--history',
            file,
            *flags,
            **{'MANAGEMENT_URL': broker.management_url, **env},
        )
        serve.running = running
        return running.wait_for('shows', running.out).split()[0]

    return serve


@pytest.fixture
def watched(start, url, channel, file, broker):
    """A broker that monitor.py watches, and its queue `work`."""
    running = start(
        'monitor.py', '--history', file, '--interval', 1, MANAGEMENT_URL=broker.management_url
    )
    channel.confirm_delivery()
    channel.queue_declare('work', durable=True)
    running.wait_for('ready')
    # Messages before the first collection are not counted.
    with contextlib.closing(database.open_for_reading(str(file))) as db:
        wait_until(lambda: database.broker(db)['collected'], 'a first collection')
    return running
