"""Tokens as passwords, on a real broker with rabbitmq_auth_backend_oauth2.

PyJWT makes them: another implementation.
"""

import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.processes import TEST_TIMEOUT_S, let_fault_last, wait_until
from support.queues import judge, waiting
from support.scripts import CLIENTS as SCRIPTS

import common
from siamese.messaging import credentials as tokens
from siamese.messaging import management_api as management
from siamese.testbed import candidate
from siamese.testbed import rabbitmq as broker_module

pytestmark = pytest.mark.pair

ALL = ['siamese.configure:*/*', 'siamese.read:*/*', 'siamese.write:*/*']
KIDS = 'k1', 'k2', 'k1'  # the last key is a stranger's, who uses our name for it
# What an AMQP_TOKEN_COMMAND runs: a life in s, the key, its kid, a file that counts, scopes.
MINT = """
import jwt, sys, time
life, key, kid, calls, *scopes = sys.argv[1:]
print(jwt.encode({'sub': 'alice', 'aud': ['siamese'],
                  'exp': int(time.time() + float(life)), 'scope': scopes},
                 open(key).read(), 'RS256', headers={'kid': kid}))
print(end='x', file=open(calls, 'a'))
"""


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
    """The files of two private keys, of one that no broker knows, and the public halves of two."""
    files, public = [], []
    for name in 'k1', 'k2', 'stranger':
        key = rsa.generate_private_key(65537, 2048)
        files.append(tmp_path_factory.mktemp('keys') / name)
        files[-1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public.append(
            key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )
    return files, public[:2]


@pytest.fixture(scope='module')
def broker(keys):
    """A RabbitMQ that takes tokens, in place of the one that the other tests share."""
    with broker_module.throwaway(management=True, oauth2=keys[1]) as throwaway:
        yield throwaway


@pytest.fixture
def mint(keys, tmp_path):
    """A function that makes a token.

    Its command() makes an AMQP_TOKEN_COMMAND; calls() tells how often that ran.
    """
    made = tmp_path / 'made'
    made.touch()
    (tmp_path / 'mint.py').write_text(MINT)

    def mint(life=300, *scopes, key=0):
        claims = {
            'sub': 'alice',
            'aud': ['siamese'],
            'exp': int(time.time() + life),
            'scope': scopes or ALL,
        }
        return jwt.encode(claims, keys[0][key].read_text(), 'RS256', headers={'kid': KIDS[key]})

    mint.command = lambda life=300, *scopes, key=0: shlex.join(
        map(
            str,
            [
                sys.executable,
                tmp_path / 'mint.py',
                life,
                keys[0][key],
                KIDS[key],
                made,
                *(scopes or ALL),
            ],
        )
    )
    mint.calls = lambda: len(made.read_text())
    return mint


@pytest.fixture
def bare(url):
    """The URL of this test's virtual host without a login."""
    return url.replace('guest:guest@', '')


def with_token(bare, token):
    return bare.replace('//', f'//:{token}@')


# ---- a token in the URL


def test_every_script_works_with_a_token(start, bare, mint):
    token = mint()
    running = [start(*name.split(), AMQP_URL=with_token(bare, token)) for name in SCRIPTS]
    for script in running:
        script.wait_for('ready: RabbitMQ')
    for script in running:
        done = script.stop()
        assert (
            done.status in (0, 3)
            and token not in done.out + done.err
            and 'Traceback' not in done.err
        ), done.err


def test_the_second_key_is_trusted_too(run, bare, mint):
    assert run('producer.py', '--count', 1, AMQP_URL=with_token(bare, mint(key=1))).status == 0


@pytest.mark.parametrize(
    'life, scopes, key, what',
    [
        (-600, ALL, 0, 'it expired 6'),
        (300, ALL, 2, 'signed by somebody else'),
        (300, ['other.read:*/*'], 0, 'no permission for this token to use the virtual host'),
        (300, ['siamese.read:*/*'], 0, 'this token lacks permission: ACCESS_REFUSED'),
    ],
)
def test_a_token_that_is_not_accepted_takes_one_line(run, url, bare, mint, life, scopes, key, what):
    assert (
        run('producer.py', '--count', 1, '--url', url).status == 0
    )  # it declares; who may not, looks only
    token = mint(life, *scopes, key=key)
    done = run('producer.py', '--count', 1, '--quiet', AMQP_URL=with_token(bare, token))
    assert (
        done.status == 3
        and done.err.count(what) == 1
        and done.err.splitlines()[-1].count(what) == 1
    ), done.err
    assert token.split('.')[1] not in done.err + done.out and 'Traceback' not in done.err
    assert 'AMQP_TOKEN_COMMAND' in done.err or 'scopes' in done.err


def test_a_token_in_place_of_the_user_name_is_never_shown(run, bare, mint):
    token = mint()
    done = run('producer.py', AMQP_URL=bare.replace('//', f'//{token}@'))
    assert (
        done.status == 2
        and 'after a colon' in done.err
        and token not in done.err
        and done.out == ''
    )


def at_work(start, bare, mint, life=8):
    """Return a token that expires soon, and validate.py, which got ready before that."""
    token = mint(life)
    consumer = start('validate.py', AMQP_URL=with_token(bare, token))
    wait_until(lambda: 'ready' in ''.join(consumer.err) or has_ended(consumer), 'validate.py')
    if 'ready' in ''.join(consumer.err):
        return token, consumer
    assert 'expired' in consumer.end().err  # a busy machine is slow
    return at_work(start, bare, mint, 2 * life)


def has_ended(running):
    return running.process.poll() is not None


def test_a_token_that_expires_on_an_open_connection(start, channel, url, bare, mint):
    """What a channel may do it may also after that, for a while; a new one may nothing.

    Or the broker closes the connection, as RabbitMQ 4.3 does.
    """
    token, consumer = at_work(start, bare, mint)
    wait_until(lambda: time.time() > tokens.expiry(token) + 1, 'its end')
    channel.queue_delete('siamese.blocks')  # it declares it again
    done = consumer.end()
    assert (
        done.status == 3
        and 'the token has expired; see AMQP_URL, or let AMQP_TOKEN_COMMAND' in done.err
    ), done.err
    # ready, consumer cancelled (if it was still there), and that
    assert len(done.err.splitlines()) in (2, 3), done.err


# ---- AMQP_TOKEN_COMMAND


def renewals(broker):
    """Return how often the broker got a new secret on each connection, most often first."""
    return [
        count
        for _, count in Counter(
            re.findall(r'(\S+) -> .* updated secret', log_of(broker))
        ).most_common()
    ]


def log_of(broker):
    return (Path(broker.folder) / 'n0.log').read_text()


def test_nothing_is_lost_over_ten_renewals(start, run, broker, bare, mint, tmp_path):
    ledger, env = (
        tmp_path / 'ledger.jsonl',
        {'AMQP_URL': bare, 'AMQP_TOKEN_COMMAND': mint.command(12)},
    )
    flags = ['--quiet', '--difficulty', 2, '--ledger', ledger, '--json', '-']
    scripts = [
        start('producer.py', *flags, '--rate', 50, **env),
        start('validate.py', *flags, **env),
    ]
    wait_until(
        lambda: len(renewals(broker)) > 1 and renewals(broker)[1] >= 10,
        'ten renewals of both',
        patience=3 * TEST_TIMEOUT_S,
    )
    ends = [script.stop() for script in scripts]
    for done in ends:
        assert done.status == 0 and json.loads(done.out)['connections'] == 1, done.err
        assert 'again' not in done.err and 'eyJ' not in done.err + done.out, done.err
    run('validate.py', *flags, '--idle', 1, **env)
    status, found = judge(run, ledger)
    assert status == 0 and found['confirmed'] == found['ok'] > 500, found


def test_a_failing_command_is_logged_once_and_retried(start, bare, mint, tmp_path):
    command = (
        f'test -e {tmp_path}/works || {{ echo secret; echo secret >&2; exit 7; }}; {mint.command()}'
    )
    producer = start(
        'producer.py', '--count', 3, '--quiet', AMQP_URL=bare, AMQP_TOKEN_COMMAND=command
    )
    line = producer.wait_for('AMQP_TOKEN_COMMAND')
    assert 'login refused at' in line and 'fails with status 7; run it by hand), retrying' in line
    let_fault_last(1)
    (tmp_path / 'works').touch()
    done = producer.end()
    assert done.status == 0 and mint.calls() == 1 and len(done.err.splitlines()) == 2, done.err
    assert 'secret' not in done.err + done.out


def test_a_command_that_fails_for_longer_than_a_token_lives(
    start, broker, channel, bare, mint, tmp_path
):
    """Renewal fails, what needs a right is refused, or the connection closed; and it heals."""
    works = tmp_path / 'works'
    works.touch()
    command = f'test -e {works} && {mint.command(6)}'
    consumer = start('validate.py', '--json', '-', AMQP_URL=bare, AMQP_TOKEN_COMMAND=command)
    consumer.wait_for('ready')
    works.unlink()
    end = time.time() + 6
    consumer.wait_for('AMQP_TOKEN_COMMAND fails with status 1; run it by hand, retrying')
    wait_until(lambda: time.time() > end + 1, 'the end of the token')
    channel.queue_delete('siamese.blocks')
    refused = f'{unquote(bare.rpartition("/")[2])}.*JWT token has expired'
    wait_until(
        lambda: re.search(refused, log_of(broker)) or 'CONNECTION_FORCED' in ''.join(consumer.err),
        'it',
    )
    works.touch()
    consumer.wait_for('AMQP_TOKEN_COMMAND works again')
    consumer.wait_for('back after')
    assert waiting(channel, 'siamese.blocks') == 0  # it is there again
    done = consumer.stop()
    assert len([line for line in done.err.splitlines() if 'AMQP_TOKEN_COMMAND' in line]) == 2, (
        done.err
    )
    losses = re.findall('connection lost.*', done.err)
    assert all('CONNECTION_FORCED' in loss for loss in losses), losses
    assert len(losses) < 2 and 'Traceback' not in done.err


def test_a_refused_token_is_replaced_once(run, bare, mint):
    """The one of the URL is a stranger's, the first of the command is not."""
    url = with_token(bare, mint(key=2))
    done = run(
        'producer.py', '--count', 1, '--quiet', AMQP_URL=url, AMQP_TOKEN_COMMAND=mint.command()
    )
    assert done.status == 0 and 'login refused at' in done.err and mint.calls() == 1
    done = run(
        'producer.py',
        '--count',
        1,
        '--quiet',
        AMQP_URL=url,
        AMQP_TOKEN_COMMAND=mint.command(300, key=2),
    )
    assert (
        done.status == 3
        and 'refuses this token: signed by somebody else' in done.err
        and mint.calls() == 2
    )


def test_a_lost_connection_comes_back_with_a_valid_token(start, broker, bare, mint):
    env = {'AMQP_URL': bare, 'AMQP_TOKEN_COMMAND': mint.command(300)}
    producer = start('producer.py', '--quiet', '--rate', 5, **env)
    producer.wait_for('ready')
    broker.ctl('close_all_connections', '--vhost', unquote(bare.rpartition('/')[2]), 'test')
    producer.wait_for('back after')
    assert producer.stop().status == 0 and mint.calls() == 1  # the one it had was good for long


def test_the_command_does_not_run_for_users_with_a_name(run, url, tmp_path):
    assert (
        run('producer.py', '--count', 1, AMQP_TOKEN_COMMAND=f'touch {tmp_path}/called').status == 0
    )
    assert not (tmp_path / 'called').exists()


def is_gone(group):
    """Return whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    'command, what',
    [
        ('exit 3', 'fails with status 3'),
        ('/none', 'fails with status 127'),
        ('true', 'prints no token'),
        ('echo a b', 'prints no token'),
        (r"printf '\303\274'", 'prints no token'),
        ('sleep 1000 & echo $$ >pid; sleep 1000', 'takes longer than 5 s'),
    ],
)
def test_output_that_is_not_a_token_raises(monkeypatch, tmp_path, command, what):
    monkeypatch.chdir(tmp_path)
    if 'sleep' in command:
        monkeypatch.setattr(tokens, 'COMMAND_TIMEOUT_S', 5)
    with pytest.raises(tokens.NoToken, match=what):
        tokens.printed_by(command)
    if command.endswith('pid; sleep 1000'):
        group = int((tmp_path / 'pid').read_text())
        wait_until(lambda: is_gone(group), 'their end')


def test_an_expired_token_of_the_command_raises(mint):
    with pytest.raises(tokens.NoToken, match='has expired'):
        tokens.TokenCredentials('', mint.command(-5)).password  # noqa: B018  it asks the command


# ---- the management API


def endpoint(broker, token='', command=None):
    (found,) = common.endpoints(with_token(broker.url.replace('guest:guest@', ''), token), 'test')
    found.credentials = tokens.TokenCredentials(token, command)
    return found, broker.management_url.replace('guest:guest@', '')


def test_the_management_api_takes_a_token_and_the_next_one(broker, mint):
    api = management.api(*endpoint(broker, mint(300, 'siamese.tag:monitoring')))
    assert api.get('whoami')['name'] == 'alice' and api.get('nodes')
    api = management.api(*endpoint(broker, mint(-9)))
    with pytest.raises(management.Refused, match='refuses this token: ') as refused:
        api.get('whoami')
    assert refused.value.status == 401
    login = endpoint(
        broker, mint(8, 'siamese.tag:monitoring'), mint.command(300, 'siamese.tag:administrator')
    )
    api = management.api(*login)
    assert api.get('whoami')['tags'] == ['monitoring']
    wait_until(lambda: time.time() > login[0].credentials.expires, 'its end')
    assert api.get('whoami')['tags'] == ['administrator'] and api.get('users') and mint.calls() == 1
    with pytest.raises(
        management.Refused, match='no login .*AMQP_TOKEN_COMMAND fails with status 4'
    ):
        management.api(*endpoint(broker, '', 'exit 4')).get('whoami')


def test_monitor_and_roles_with_a_token(run, broker, bare, mint):
    env = {
        'AMQP_URL': bare,
        'MANAGEMENT_URL': broker.management_url.replace('guest:guest@', ''),
        'AMQP_TOKEN_COMMAND': mint.command(300, 'siamese.tag:administrator', *ALL),
    }
    done = run('monitor.py', '--once', **env)
    assert done.status == 0 and '0 queues' in done.out, done.err
    done = run('roles.py', '--create', '--prefix', 'token', **env)
    assert done.status == 0, done.err
    done = run('roles.py', '--check', '--prefix', 'token', **env)
    assert done.status == 0 and ' 0 wrong' in done.out and 'eyJ' not in done.out + done.err, (
        done.err
    )
    assert run('roles.py', '--remove', '--prefix', 'token', **env).status == 0


# ---- compare.py


def test_compare_logs_in_with_tokens_only(run, broker, bare, mint):
    broker.ctl('clear_permissions', '-p', unquote(bare.rpartition('/')[2]), 'guest')
    done = run(
        'compare.py',
        bare,
        '--only',
        'reconnect',
        '--budget',
        500,
        AMQP_TOKEN_COMMAND=mint.command(),
    )
    assert done.status == 0 and '1 pass' in done.out, done.err


@pytest.mark.parametrize(
    'life, scopes, what',
    [(-60, ALL, 'refuses this token'), (300, ['other.read:*/*'], 'no permission for this token')],
)
def test_a_token_that_the_broker_refuses_is_no_fault_of_the_broker(
    bare, mint, tmp_path, life, scopes, what
):
    broker = candidate.Candidate(with_token(bare, mint(life, *scopes)), 500)
    broker.folder = tmp_path
    with pytest.raises(candidate.Unavailable, match=what):
        broker.run('ack_producer.py', '--count', 1)


def compared(bare, mint, folder, life=8):
    """Return a broker whose token expires soon, and validate.py, which got ready before."""
    broker = candidate.Candidate(with_token(bare, mint(life)), 500)
    broker.folder = folder
    try:
        return broker, broker.ready('validate.py')
    except candidate.Unavailable as error:
        assert 'expired' in str(error)  # a busy machine is slow
    return compared(bare, mint, folder, 2 * life)


def test_a_token_that_expires_while_a_script_of_compare_is_at_work(channel, bare, mint, tmp_path):
    broker, consumer = compared(bare, mint, tmp_path)
    wait_until(lambda: time.time() > broker.endpoint.credentials.expires + 1, 'its end')
    channel.queue_delete('siamese.blocks')  # it declares it again
    with pytest.raises(candidate.Unavailable, match='the token has expired'):
        broker.end(consumer)


def test_a_token_that_expires_before_compare_has_finished(run, bare, mint):
    token = mint(5)  # latency alone takes longer
    done = run(
        'compare.py',
        with_token(bare, token),
        '--only',
        'm x n',
        '--only',
        'latency',
        '--only',
        'priority',
    )
    assert (
        done.status == 3 and 'priority         not known' in done.out and 'FAIL' not in done.out
    ), done.err
    assert (
        'the token expires in ' in done.err.splitlines()[0]
        and 'let AMQP_TOKEN_COMMAND' in done.err.splitlines()[0]
    )
    assert (
        'expired' in done.err.splitlines()[-1]
        or 'cleanup.py --delete ' in done.err.splitlines()[-1]
    )
    assert 'Traceback' not in done.err and token not in done.err + done.out
