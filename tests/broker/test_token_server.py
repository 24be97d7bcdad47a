"""token_server.py: attacks are refused over HTTP, each with one line.

Honest assertions become tokens, and permissions at a real RabbitMQ.
"""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import sqlite3
import ssl
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import jwt
import pika
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support import identity
from support.attacks import ATTACKS, sent
from support.identity import encoded
from support.processes import TEST_TIMEOUT_S, Running, wait_until
from support.queues import drain

import common
from siamese.access import permissions
from siamese.access.standard_roles import ROLES
from siamese.messaging import management_api
from siamese.testbed import rabbitmq as broker_module

GRANT = 'urn:ietf:params:oauth:grant-type:saml2-bearer'


def patched(*lines):
    """Return the words that run token_server.py with other constants."""
    code = ['import token_server', 'from siamese import refusals, script', *lines]
    return (sys.executable, '-c', '; '.join([*code, 'script.run(token_server.main)']))


EACH_REFUSAL = 'refusals.PERIOD_S = 0'  # is logged, however many there are in a second


class Server(Running):
    """A token server on a free port; `url` is its own."""

    def __init__(self, folder, *flags, start=None):
        start = start or patched(EACH_REFUSAL)
        super().__init__(
            *start, f'{folder}/claims.json', '--keys', f'{folder}/keys', '--port', 0, *flags
        )
        self.url = self.wait_for('takes assertions', self.out).split('/token')[0]
        self.address = '127.0.0.1', int(self.url.rpartition(':')[2])

    def post(self, body, context=None):
        """POST to /token; return the status and the answer, decoded."""
        body = body if isinstance(body, bytes) else urlencode(body).encode()
        try:
            with urllib.request.urlopen(
                f'{self.url}/token', body, timeout=TEST_TIMEOUT_S, context=context
            ) as response:
                assert response.headers['cache-control'] == 'no-store'
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def ask(self, assertion):
        return self.post({'grant_type': GRANT, 'assertion': assertion})

    def token(self, xml):
        status, answer = self.ask(encoded(xml))
        assert status == 200, answer
        return answer['access_token']

    def jwks(self):
        with urllib.request.urlopen(f'{self.url}/jwks', timeout=TEST_TIMEOUT_S) as response:
            return jwt.PyJWKSet.from_dict(json.load(response))


def provider_in(folder):
    identity.make(folder)
    return identity.Provider(folder)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with what a token server needs: its keys are k1, and k2 that does not sign yet."""
    folder = tmp_path_factory.mktemp('tokens')
    provider = provider_in(folder)
    for _ in range(2):
        made = Running('token_server.py', '--new-key', '--keys', folder / 'keys').end()
        assert made.status == 0, made.err
    os.rename(folder / 'keys/k2.pem', folder / 'k2.pem')
    return SimpleNamespace(folder=folder, provider=provider)


@pytest.fixture(scope='module')
def stranger(tmp_path_factory):
    return provider_in(tmp_path_factory.mktemp('stranger'))


@pytest.fixture(scope='module')
def provider(place):
    return place.provider


@pytest.fixture(scope='module')
def server(place):
    """The token server of these tests; at the end, none of its lines may hold anything secret."""
    running = Server(place.folder)
    yield running
    done = running.stop()
    assert done.status == 0
    assert re.search(r'^\d+ tokens, \d+ refused; up for \d+ s; stopped: SIGINT$', done.out, re.M)
    assert 'Traceback' not in done.err
    assert not re.search(r'[\w+/=-]{60}|PRIVATE|eyJ', done.err + done.out)


@pytest.fixture(scope='module')
def oauth2_broker(place):
    keys = [(place.folder / f'keys/{kid}.pub').read_text() for kid in ('k1', 'k2')]
    with broker_module.throwaway(management=True, oauth2=keys) as broker:
        yield broker


def refused_with(server, words, body):
    """Send a body that must be refused; return the answer.

    Checks that the refusal is one line in the log, which says why.
    """
    before = len(server.err)
    status, answer = server.post(body)
    assert status == 400 and 'access_token' not in answer

    def told():  # the line of a token before may come late
        return [line for line in server.err[before:] if ', signed with ' not in line]

    line = wait_until(told, f'a line about {words!r}')
    assert len(line) == 1
    assert 'refused, from 127.0.0.1: ' in line[0]
    assert words in line[0]
    assert len(line[0]) < 500
    return answer


@pytest.mark.parametrize('name', ATTACKS)
def test_an_attack_is_refused_with_one_line_that_says_why(name, server, provider, stranger):
    assertion, words = sent(name, provider, stranger)
    answer = refused_with(server, words, {'grant_type': GRANT, 'assertion': assertion})
    assert answer['error'] in ('invalid_grant', 'invalid_request')
    assert not re.search(r'["\\\x7f-\U0010ffff]', answer['error_description']), (
        'RFC 6749 does not allow these'
    )


def test_an_assertion_becomes_a_token(server, provider):
    now = time.time()
    status, answer = server.ask(encoded(provider.assertion('alice', 'shop', 'others')))
    assert status == 200
    assert answer['token_type'] == 'bearer'
    assert 290 < answer['expires_in'] <= 330
    token = answer['access_token']
    assert jwt.get_unverified_header(token) == {'alg': 'RS256', 'kid': 'k1', 'typ': 'JWT'}
    claims = jwt.decode(
        token, server.jwks()['k1'], ['RS256'], audience='siamese', issuer=identity.AUDIENCE
    )
    assert claims['sub'] == 'alice'
    assert claims['scope'] == answer['scope'] == 'siamese.write:*/*'
    assert claims['exp'] - claims['iat'] == answer['expires_in']
    assert abs(claims['iat'] - now) < TEST_TIMEOUT_S
    assert server.wait_for("'alice' is publisher for")


def test_no_role_no_token(server, provider):
    xml = provider.assertion('walter', 'visitors')
    refused_with(server, "no role for 'walter'", {'grant_type': GRANT, 'assertion': encoded(xml)})


def test_it_counts_once_even_after_a_restart(server, place, provider):
    xml = provider.assertion('alice', 'shop')
    assert server.token(xml)
    form = {'grant_type': GRANT, 'assertion': encoded(xml)}
    refused_with(server, 'this assertion was used before', form)
    other = Server(place.folder)
    refused_with(other, 'this assertion was used before', form)
    assert '0 tokens, 1 refused' in other.stop().out


def test_50_at_once_and_none_wrong(server, provider):
    before = len(server.err)
    xmls = [provider.assertion(f'user{number}', 'warehouse') for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        tokens = list(pool.map(server.token, xmls))
        key = server.jwks()['k1']
        assert [
            jwt.decode(token, key, ['RS256'], audience='siamese')['sub'] for token in tokens
        ] == [f'user{number}' for number in range(50)]
        again = list(pool.map(server.ask, [encoded(provider.assertion('eve', 'warehouse'))] * 50))
    assert sorted(status for status, _ in again) == [200] + [400] * 49
    used = 'used before'
    wait_until(lambda: sum(used in line for line in server.err[before:]) == 49, 'their lines')


@pytest.mark.parametrize(
    'body, words, error',
    [
        (b'', 'grant_type is not', 'invalid_request'),
        ({'grant_type': 'password'}, 'grant_type is not', 'unsupported_grant_type'),
        ({'grant_type': GRANT}, 'no base64url', 'invalid_grant'),
        (
            [('grant_type', GRANT), ('assertion', 'a'), ('assertion', 'b')],
            'a field comes twice',
            'invalid_request',
        ),
        (b'x' * 100_001, 'too large: more than 100000 bytes', 'invalid_request'),
        (b'grant_type=\xff', 'not a form', 'invalid_request'),
        (b'&a=b' * 21, 'not a form', 'invalid_request'),
    ],
)
def test_a_form_that_is_not_right(server, body, words, error):
    assert refused_with(server, words, body)['error'] == error


def test_who_breaks_off_is_one_line(server):
    before = len(server.err)
    connection = http.client.HTTPConnection(server.url.partition('//')[2], timeout=TEST_TIMEOUT_S)
    connection.putrequest('POST', '/token')
    connection.putheader('Content-Length', '1000')
    connection.endheaders(b'grant_type=')
    connection.close()
    line = wait_until(lambda: server.err[before:])
    assert len(line) == 1 and 'broke off' in line[0]


def test_no_assertion_in_an_address(server):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f'{server.url}/token?assertion=secret', timeout=TEST_TIMEOUT_S)
    assert error.value.code == 405 and 'secret' not in ''.join(server.err)


def test_without_keys_or_disk_nobody_gets_a_token(tmp_path):
    provider = provider_in(tmp_path)
    server = Server(tmp_path)
    server.wait_for('made k1')
    os.rename(tmp_path / 'keys', tmp_path / 'elsewhere')
    assert server.ask(encoded(provider.assertion('alice', 'shop'))) == (
        503,
        {'error': 'temporarily_unavailable'},
    )
    server.wait_for('refused, from 127.0.0.1: FileNotFoundError')
    os.rename(tmp_path / 'elsewhere', tmp_path / 'keys')
    (tmp_path / 'keys/used.db').write_text('no database')
    assert server.ask(encoded(provider.assertion('alice', 'shop')))[0] == 503
    (tmp_path / 'keys/used.db').unlink()
    assert server.token(provider.assertion('alice', 'shop'))
    assert '1 token, 2 refused' in server.stop().out


def test_private_keys_are_private(place):
    assert (place.folder / 'keys/k1.pem').stat().st_mode & 0o777 == 0o600
    assert 'PRIVATE' not in (place.folder / 'keys/k1.pub').read_text()


def as_user(broker, token):
    return permissions.as_user(common.endpoints(broker.url, 'test')[0], '', token)


@pytest.fixture
def room(oauth2_broker):
    """A virtual host with the queues of the scripts: its URL, with {} for a token."""
    producer = Running(
        'producer.py', '--count', 1, '--difficulty', 2, env={'AMQP_URL': oauth2_broker.url}
    ).end()
    assert producer.status == 0, producer.err
    yield oauth2_broker.url.replace('guest:guest@', ':{}@')
    connection = pika.BlockingConnection(pika.URLParameters(oauth2_broker.url))
    connection.channel().queue_delete('siamese.blocks')
    connection.close()


@pytest.mark.pair
def test_the_whole_chain(server, provider, oauth2_broker, room):
    """Assertion, token, script.

    The publisher publishes, the subscriber consumes, monitoring reads the API.
    """
    publisher, subscriber, watcher = (
        room.format(server.token(provider.assertion(f'{group}-user', group)))
        for group in ('shop', 'warehouse', 'watchers')
    )
    produce = 'producer.py', '--name', 'alice', '--count', 2, '--difficulty', 2
    done = Running(*produce, env={'AMQP_URL': publisher}).end()
    assert done.status == 0 and '2 confirmed' in done.out
    for wrong in subscriber, watcher:
        refused = Running(*produce, env={'AMQP_URL': wrong}).end()
        assert refused.status == 3
        assert 'ACCESS_REFUSED' in refused.err
        assert 'eyJ' not in refused.err + refused.out
    connection = pika.BlockingConnection(pika.URLParameters(oauth2_broker.url))
    assert len(drain(connection.channel(), 'siamese.blocks')) == 3, (
        'what the publisher sent, and the one of before'
    )
    connection.close()
    assert Running(*produce, env={'AMQP_URL': publisher}).end().status == 0
    validate = 'validate.py', '--name', 'carol', '--difficulty', 2, '--count', 2
    refused = Running(*validate, env={'AMQP_URL': publisher}).end()
    assert refused.status == 3 and 'ACCESS_REFUSED' in refused.err
    done = Running(*validate, env={'AMQP_URL': subscriber}).end()
    assert done.status == 0 and '2 blocks valid' in done.out
    watcher = pika.URLParameters(watcher).credentials.password
    api = management_api.api(as_user(oauth2_broker, watcher), without_login(oauth2_broker))
    assert api.get('whoami')['name'] == 'watchers-user'
    assert api.get('overview')['rabbitmq_version']


def without_login(broker):
    return re.sub(r'//.*@', '//', broker.management_url)


def api_at(url):
    return lambda endpoint: management_api.api(endpoint, url)


@pytest.mark.pair
@pytest.mark.parametrize('group, role', identity.ROLES.items())
def test_each_role_has_the_permissions_that_roles_py_gives_it(
    server, provider, oauth2_broker, group, role
):
    endpoint = common.endpoints(oauth2_broker.url, 'test')[0]
    user = as_user(oauth2_broker, server.token(provider.assertion(role, group)))
    name = f'{permissions.TEMPORARY}{role}'
    try:
        refusals = permissions.try_all(endpoint, user, api_at(without_login(oauth2_broker)), name)
    finally:
        permissions.clean_up(endpoint, api_at(oauth2_broker.management_url), name)
    assert {what for what, refusal in refusals.items() if not refusal} == ROLES[role].operations


@pytest.mark.pair
def test_the_monitors_own_queue(server, provider, oauth2_broker):
    """Beyond what roles.py tries: its own queue for events, and no other."""
    user = as_user(oauth2_broker, server.token(provider.assertion('mona', 'watchers')))
    connection = pika.BlockingConnection(user)
    assert connection.channel().queue_declare('siamese.events-mona', exclusive=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        connection.channel().queue_declare('siamese.elses')
    assert refused.value.reply_code == 403
    connection.close()


@pytest.mark.pair
def test_keys_can_be_changed_while_it_runs(place, server, provider, oauth2_broker):
    before = server.token(provider.assertion('alice', 'shop'))
    os.rename(place.folder / 'k2.pem', place.folder / 'keys/k2.pem')
    try:
        after = server.token(provider.assertion('alice', 'shop'))
        assert [jwt.get_unverified_header(token)['kid'] for token in (before, after)] == [
            'k1',
            'k2',
        ]
        assert [key.key_id for key in server.jwks().keys] == ['k2', 'k1']
        for token in before, after:
            pika.BlockingConnection(as_user(oauth2_broker, token)).close()
        made = Running('token_server.py', '--new-key', '--keys', place.folder / 'keys').end()
        assert made.out == f'{place.folder}/keys/k3.pub\n'
        unknown = server.token(provider.assertion('alice', 'shop'))
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            pika.BlockingConnection(as_user(oauth2_broker, unknown))
        oauth2_broker.ctl('add_uaa_key', 'k3', f'--pem-file={place.folder}/keys/k3.pub')
        pika.BlockingConnection(as_user(oauth2_broker, unknown)).close()
    finally:
        os.rename(place.folder / 'keys/k2.pem', place.folder / 'k2.pem')
        (place.folder / 'keys/k3.pem').unlink(missing_ok=True)


@pytest.mark.pair
def test_a_forged_token_is_refused_by_the_broker(server, provider, oauth2_broker):
    header, body, signature = server.token(provider.assertion('alice', 'warehouse')).split('.')
    claims = json.loads(base64.urlsafe_b64decode(body + '=='))
    forged = base64.urlsafe_b64encode(
        json.dumps({**claims, 'scope': 'siamese.tag:administrator'}).encode()
    ).decode()
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(
            as_user(oauth2_broker, f'{header}.{forged.rstrip("=")}.{signature}')
        )


def test_a_token_lives_no_longer_than_its_assertion(place, tmp_path):
    server = Server(place.folder, '--lifetime', 3600)
    status, answer = server.ask(encoded(place.provider.assertion('alice', 'shop')))
    assert status == 200 and answer['expires_in'] <= 330
    server.stop()


def test_with_tls(place, tmp_path):
    authority = trustme.CA()
    authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(
        tmp_path / 'server.pem'
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = Server(place.folder, '--certfile', tmp_path / 'server.pem')
    assert server.url.startswith('https://127.0.0.1:')
    form = {'grant_type': GRANT, 'assertion': encoded(place.provider.assertion('alice', 'shop'))}
    assert server.post(form, context)[0] == 200
    server.stop()


@pytest.mark.parametrize(
    'change, words',
    [
        ('[', 'Expecting value'),
        ('{}', 'expected an object with audience'),
        ('[]', 'expected an object with audience'),
        ({'roles': [{'attribute': 'a', 'value': 'b'}]}, 'in roles, not attribute, value, role'),
        (
            {'roles': [{'attribute': 'a', 'value': 'b', 'role': 'king'}]},
            "there is no role 'king', but subscriber",
        ),
        ({'roles': {}}, 'expected an object'),
        ({'certificates': 'none.pem'}, 'No such file'),
        ({'certificates': 'claims.json'}, 'cannot use'),
        ({'issuer': 5}, 'must be text'),
    ],
)
def test_claims_that_cannot_be_used(tmp_path, change, words):
    identity.make(tmp_path)
    path = tmp_path / 'claims.json'
    path.write_text(
        change
        if isinstance(change, str)
        else json.dumps({**json.loads(path.read_text()), **change})
    )
    done = Running('token_server.py', path, '--keys', tmp_path / 'keys').end()
    assert done.status == 2 and words in done.err and done.err.count('\n') == 1


@pytest.mark.parametrize(
    'flags, words',
    [
        ([], 'give either CLAIMS.json or --new-key'),
        (['examples/saml/claims.json', '--new-key'], 'give either'),
        (
            ['examples/saml/claims.json', '--host', '0.0.0.0'],
            'assertions and tokens would cross the network in clear',
        ),
        (['examples/saml/claims.json', '--certfile', 'README.md'], 'cannot use --certfile'),
    ],
)
def test_bad_flags(flags, words):
    done = Running('token_server.py', *flags).end()
    assert done.status == 2 and words in done.err and done.err.count('\n') == 1


def put_bad_key(kind, path):
    """Make a file that holds no private RSA key that token_server.py can use."""
    if kind == 'dangling':
        path.symlink_to('nowhere')
    elif kind == 'bad':
        path.write_bytes(b'no key')
    else:
        path.write_bytes(unusable_pem(kind))
    if kind != 'dangling':
        path.chmod(0o600 if kind != 'open' else 0o640)


def unusable_pem(kind):
    encryption = serialization.NoEncryption()
    if kind == 'open':
        key = rsa.generate_private_key(65537, 2048)
    elif kind == 'short':
        key = rsa.generate_private_key(65537, 1024)
    elif kind == 'EC':
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        assert kind == 'encrypted'
        key = rsa.generate_private_key(65537, 2048)
        encryption = serialization.BestAvailableEncryption(b'secret')
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption,
    )


BAD_KEYS = ['bad', 'EC', 'short', 'encrypted', 'dangling', 'open']


@pytest.mark.parametrize('kind', BAD_KEYS)
def test_keys_that_are_none(tmp_path, kind):
    put_bad_key(kind, tmp_path / 'k1.pem')
    done = Running('token_server.py', 'examples/saml/claims.json', '--keys', tmp_path).end()
    assert done.status == 3
    assert f'cannot use the keys in {tmp_path}' in done.err
    assert done.err.count('\n') == 1
    assert done.err.count('k1.pem') == 1


def test_keys_that_are_none_while_it_runs(tmp_path):
    provider, path = provider_in(tmp_path), tmp_path / 'keys/k2.pem'
    server = Server(tmp_path)
    for kind in BAD_KEYS:
        put_bad_key(kind, path)
        assert server.ask(encoded(provider.assertion('alice', 'shop'))) == (
            503,
            {'error': 'temporarily_unavailable'},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.jwks()
        assert refused.value.code == 503
        assert json.load(refused.value) == {'error': 'temporarily_unavailable'}
        path.unlink()
        assert server.token(provider.assertion('alice', 'shop'))
        assert server.jwks()
    (tmp_path / 'keys/k1.pem').unlink()
    assert server.ask(encoded(provider.assertion('alice', 'shop')))[0] == 503
    done = server.stop()
    assert done.err.count('k2.pem') == 2 * len(BAD_KEYS)
    assert done.err.count(f'there is no key in {tmp_path}/keys') == 1
    assert done.err.count('refused, from 127.0.0.1: ') == 2 * len(BAD_KEYS) + 1
    assert 'Traceback' not in done.err
    assert f'{len(BAD_KEYS)} tokens, {2 * len(BAD_KEYS) + 1} refused' in done.out


def test_keys_that_are_made_at_once_are_as_many(tmp_path):
    words = ('token_server.py', '--new-key', '--keys', tmp_path / 'keys')
    made = [running.end() for running in [Running(*words) for _ in range(4)]]
    names = sorted(done.out.strip() for done in made)
    assert names == [f'{tmp_path}/keys/k{number}.pub' for number in range(1, 5)]
    for name in names:
        private = serialization.load_pem_private_key(
            Path(name).with_suffix('.pem').read_bytes(), None
        )
        public = serialization.load_pem_public_key(Path(name).read_bytes())
        assert private.public_key() == public


def test_while_the_memory_of_uses_is_locked_it_answers_at_once(tmp_path):
    provider = provider_in(tmp_path)
    server = Server(tmp_path)
    assert server.token(provider.assertion('alice', 'shop'))
    with contextlib.closing(sqlite3.connect(tmp_path / 'keys/used.db')) as other:
        other.execute('BEGIN EXCLUSIVE')
        took = []
        for _ in range(3):
            asked = encoded(provider.assertion('alice', 'shop'))
            began = time.monotonic()
            assert server.ask(asked)[0] == 503
            took.append(time.monotonic() - began)
        assert min(took) < 2  # SQLite waits for 5 s where nobody tells it otherwise
    assert server.token(provider.assertion('alice', 'shop'))
    done = server.stop()
    assert 'database is locked' in done.err and 'Traceback' not in done.err


def half_sent(
    server, count, head=b'POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na='
):
    """Return connections whose requests are sent in part."""
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(server.address, TEST_TIMEOUT_S))
        connections[-1].sendall(head)
    return connections


def test_requests_that_are_sent_in_part_do_not_stay(tmp_path):
    identity.make(tmp_path)
    late = (
        'from siamese.web import door',
        'door.HEAD = door.HEAD._replace(seconds=5)',
        'door.BODY = door.BODY._replace(seconds=5)',
    )
    server = Server(tmp_path, start=patched(*late))
    waiting = [
        *half_sent(server, 50),
        *half_sent(server, 20, b'POST /token HT'),
        *half_sent(server, 20, b''),
    ]
    server.wait_for('was awaited: there are 64')
    server.wait_for('its request body took more than 5 s')
    server.wait_for('its request head took more than 5 s')
    server.wait_for('the request broke off')
    for connection in waiting:  # none stays open
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000) == b''
        connection.close()
    assert server.jwks()
    done = server.stop()
    assert done.status == 0 and 'Traceback' not in done.err


def test_requests_that_are_sent_in_part_do_not_keep_it_from_ending(tmp_path):
    identity.make(tmp_path)
    server = Server(tmp_path)
    waiting = half_sent(server, 9)
    assert server.jwks()  # so those were accepted
    done = server.stop()
    assert done.status == 0, done.err
    assert 'Traceback' not in done.err, done.err
    assert len(waiting) == done.err.count('broke off'), done.err


def test_without_the_libraries_it_says_what_to_install():
    code = (
        'import sys; sys.modules["signxml"] = None; '
        'import token_server; from siamese import script; '
        'script.run(token_server.main)'
    )
    done = Running(sys.executable, '-c', code, 'examples/saml/claims.json').end()
    assert done.status == 3
    assert 'pip install -r requirements/access.txt' in done.err
    assert done.err.count('\n') == 1
