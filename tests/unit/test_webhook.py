"""webhook.py: what is posted, and that no secret is told."""

import json

import pytest
from support.builders import NOON, letter, queue

from siamese.messaging import bounded_http
from siamese.monitoring import alerts, database, dead_letters, queues, webhook
from siamese.monitoring.notices import Notice

NOTHING = alerts.Told(letter=0, standing=[], interruptions={})
SECRET = 'T00-secret'
URL = f'https://me:{SECRET}@hooks.example.org:8443/services/{SECRET}?key={SECRET}'


@pytest.fixture
def db():
    return database.open_for_writing(':memory:')


def posted(db, dashboard=None):
    news = alerts.news(db, 0, NOTHING, NOON)
    notice = Notice(news, 0, NOON - 60, NOON)
    return webhook.content(notice, 'h:5672/%2F', dashboard)


def test_what_is_posted_is_documented_json(db):
    queues.update(db, NOON - 9, [queue('a', ready=3), queue('b', ready=1)], uptime=None)
    database.set_facts(db, state='up', since=NOON, alarms={'disk alarm on n': NOON})
    found = posted(db, 'https://example.org')
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == {
        'text', 'summary', 'level', 'place', 'since', 'until', 'dashboard', 'warnings',
    }  # fmt: skip
    assert found['level'] == 'critical'
    assert found['since'] == '2026-11-24T11:59:00Z'
    first, second = found['warnings']
    assert (first['key'], first['level']) == ('alarm-disk', 'critical')
    assert second == {
        'key': 'unread',
        'level': 'warning',
        'text': '2 queues wait without a consumer: 4 messages, oldest 9 s',
        'remedy': second['remedy'],
        'link': 'https://example.org/warnings?kind=unread',
        'members': 2,
        'named': [{'name': 'a', 'count': 3}, {'name': 'b', 'count': 1}],
    }
    assert found['text'].splitlines()[1] == '• critical: disk alarm on n'


def test_no_name_calls_people_or_makes_the_post_long(db):
    letters = [
        letter(number, queue=f'<!channel> {number} ' + 'x' * 10_000, reason='r' * 10_000)
        for number in range(2000)
    ]
    dead_letters.insert(db, letters, 's', NOON)
    found = posted(db)
    assert '<' not in found['text'] and '&lt;!channel&gt;' in found['text']
    assert len(json.dumps(found)) < 10_000


def test_the_login_of_a_url_goes_into_a_header_and_the_rest_is_not_shown():
    target = webhook.target(URL)
    assert target.url == f'https://hooks.example.org:8443/services/{SECRET}?key={SECRET}'
    assert target.shown == 'https://hooks.example.org:8443'
    assert target.headers['Authorization'].startswith('Basic ')


@pytest.mark.parametrize(
    'url',
    [
        f'ftp://h/{SECRET}',
        f'https:///{SECRET}',
        f'https://h:x/{SECRET}',
        f'https://h..h/{SECRET}',
        f'https://h/{SECRET} x',
        f'https://h/{SECRET}\r\nHost: x',
        f'https://h/{SECRET}é',
        f'http://me:{SECRET}@example.org/',
        f'hooks.example.org/{SECRET}',
        SECRET,
    ],
)
def test_a_bad_url_is_not_repeated(url):
    with pytest.raises(ValueError, match='^bad webhook URL: ') as raised:
        webhook.target(url)
    assert SECRET not in str(raised.value)


def caller(url=URL):
    made = webhook.Caller.__new__(webhook.Caller)
    made.target = webhook.target(url)
    return made


@pytest.mark.parametrize(
    'status, body, complaint',
    [
        (404, b'no_service', 'it answers 404 Not Found, no_service'),
        (404, f'cannot POST /services/{SECRET}'.encode(), 'it answers 404 Not Found'),
        (400, b'services', 'it answers 400 Bad Request'),  # a part of the URL
        (302, b'', 'it answers 302, a redirect, and these are not followed'),
        (799, b'\xff', 'it answers 799'),
    ],
)
def test_what_an_answer_means(status, body, complaint):
    answer = bounded_http.Answer(status, SECRET, f'/{SECRET}', body)
    assert caller().complaint(answer) == complaint


@pytest.mark.parametrize(
    'error',
    [
        OSError(111, 'Connection refused'),
        webhook.http.client.BadStatusLine(SECRET),
        webhook.http.client.InvalidURL(URL),
    ],
)
def test_a_reason_names_the_host_only(error):
    why = caller().reason(error)
    assert why.startswith('https://hooks.example.org:8443: ')
    assert SECRET not in why
