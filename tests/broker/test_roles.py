"""roles.py against a real broker: what it makes, finds wrong and leaves behind.

And the scripts with the users that it makes.
"""

import contextlib
import json
import os
import signal
import threading
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pika
import pytest
from support.processes import TEST_TIMEOUT_S, wait_until

import common
from siamese.access import permissions
from siamese.access.standard_roles import ROLES
from siamese.access.users import OWN_TAG, put_permissions
from siamese.messaging import management_api
from siamese.testbed import proxy

pytestmark = pytest.mark.pair

AS_IT_SHOULD_BE = """\
                subscriber     publisher      monitoring     administrator
connect         allowed        allowed        allowed        allowed
declare         refused        refused        refused        allowed
bind            refused        refused        refused        allowed
publish         refused        allowed        refused        allowed
consume         allowed        refused        refused        allowed
get             allowed        refused        refused        allowed
purge           allowed        refused        refused        allowed
delete          refused        refused        refused        allowed
read the API    refused        refused        allowed        allowed
see all nodes   refused        refused        allowed        allowed
set a policy    refused        refused        refused        allowed
create a user   refused        refused        refused        allowed
48 permissions tried, 21 allowed, 27 refused, 0 wrong; """
PASSWORDS = {f'{role.upper()}_PASSWORD': f'secret-of-{role}/@' for role in ROLES}


@pytest.fixture
def manage(start, broker, url, api):
    """roles.py for roles of this test's own, which are removed afterwards.

    start() and run() run the script. user() and url() are those of a role,
    which has its password from PASSWORDS. permit() sets its patterns.
    """
    prefix = f'test-{os.urandom(4).hex()}'
    vhost = url.rpartition('/')[2]  # percent-encoded

    def start_it(*flags, **env):
        return start(
            'roles.py',
            '--prefix',
            prefix,
            *flags,
            **{'MANAGEMENT_URL': broker.management_url, **env},
        )

    def run(*flags, **env):
        return start_it(*flags, **env).end()

    def user(role):
        return f'{prefix}-{role}'

    def url_of(role):
        password = quote(PASSWORDS[f'{role.upper()}_PASSWORD'], safe='')
        return url.replace('guest:guest', f'{user(role)}:{password}')

    def permit(role, *patterns):
        put_permissions(api, unquote(vhost), user(role), patterns)

    yield SimpleNamespace(
        start=start_it, run=run, prefix=prefix, vhost=vhost, user=user, url=url_of, permit=permit
    )
    for found in api.get('users'):
        if found['name'].startswith((prefix, 'siamese.check-')):
            api.delete(f'users/{found["name"]}')


def left_behind(api, vhost):
    """Return the names of whatever a check made."""
    paths = 'users', f'policies/{vhost}', f'queues/{vhost}', f'exchanges/{vhost}', 'permissions'
    return [
        found
        for path in paths
        for found in api.get(path)
        if found.get('name', found.get('user', '')).startswith('siamese.check-')
    ]


# ---- create, check, remove


def test_the_roles_are_made_and_checked_and_removed(manage, api):
    made = manage.run('--create')
    assert made.status == 0
    assert 'shown on stdout, this once' in made.err
    lines = [line.split() for line in made.out.splitlines()]
    assert [(user, what) for user, _, what in lines] == [
        (manage.user(role), 'created') for role in ROLES
    ]
    for user, password, _ in lines:
        assert len(password) >= 20 and password not in made.err
        assert api.get(f'permissions/{manage.vhost}/{user}')
    checked = manage.run('--check')
    assert checked.status == 0, checked
    assert checked.out.startswith(AS_IT_SHOULD_BE), checked
    assert checked.out.endswith('stopped: all tried\n') and checked.err == ''
    assert not left_behind(api, manage.vhost)
    removed = manage.run('--remove')
    assert removed.status == 0 and removed.out.count('removed\n') == 4
    assert not [user for user in api.get('users') if user['name'].startswith(manage.prefix)]
    gone = manage.run('--check')
    assert gone.status == 3
    assert manage.user('monitoring') in gone.err
    assert 'see ./roles.py --create' in gone.err
    assert manage.run('--remove').out.count('does not exist\n') == 4


def test_one_role_alone_is_made_and_checked_and_removed(manage, api):
    made = manage.run('--create', '--role', 'subscriber')
    assert made.status == 0 and made.out.count('\n') == 1
    assert made.out.startswith(f'{manage.user("subscriber")} ')
    users = [user['name'] for user in api.get('users')]
    assert [name for name in users if name.startswith(manage.prefix)] == [manage.user('subscriber')]
    checked = manage.run('--check', '--role', 'subscriber')
    assert checked.status == 0, checked
    assert '\n12 permissions tried, 4 allowed, 8 refused, 0 wrong; ' in checked.out
    both = manage.run('--check', '--role', 'subscriber', '--role', 'publisher')
    assert f'there is no user {manage.user("publisher")};' in both.err
    removed = manage.run('--remove', '--role', 'subscriber')
    assert removed.out == f'{manage.user("subscriber")}: removed\n'


def test_passwords_from_the_environment_are_not_shown_and_let_in(manage):
    made = manage.run('--create', **PASSWORDS)
    assert made.status == 0
    assert '(from PUBLISHER_PASSWORD)' in made.out
    assert 'secret-of' not in made.out + made.err
    checked = manage.run('--check', '--json', '-', **PASSWORDS)
    summary = json.loads(checked.out)
    assert checked.status == 0
    assert summary['users'] == {role: manage.user(role) for role in ROLES}
    for role, may in summary['permissions'].items():
        allowed = {operation for operation in may if may[operation]}
        assert allowed == ROLES[role].operations
    assert list(summary['permissions']) == list(ROLES)
    assert summary['tried'] == 48 and summary['findings'] == []
    checked = manage.run('--check', **{**PASSWORDS, 'PUBLISHER_PASSWORD': 'wrong-one'})
    assert checked.status == 1
    assert 'publisher: missing permission: connect is refused' in checked.out
    assert 'wrong-one' not in checked.out + checked.err
    assert checked.out.count('missing permission') == 1


def test_created_again_they_keep_their_passwords_and_get_their_permissions_back(manage, api):
    manage.run('--create', **PASSWORDS)
    before = {role: api.get(f'users/{manage.user(role)}') for role in ROLES}
    manage.permit('publisher', '.*', '', '')
    api.put(
        f'users/{manage.user("subscriber")}',
        {
            **{key: before['subscriber'][key] for key in ('password_hash', 'hashing_algorithm')},
            'tags': f'{OWN_TAG},policymaker',
        },
    )
    again = manage.run('--create', PUBLISHER_PASSWORD='another')
    assert again.status == 0
    assert again.out.count('existed, permissions restored') == 4
    assert again.out.count('(unchanged)') == 3 and 'another' not in again.out
    after = {role: api.get(f'users/{manage.user(role)}') for role in ROLES}
    assert after.pop('publisher') != before.pop('publisher')
    assert after == before
    assert manage.run('--check', **{**PASSWORDS, 'PUBLISHER_PASSWORD': 'another'}).status == 0


def test_users_of_others_are_left_alone(manage, api):
    user = f'users/{manage.user("publisher")}'
    api.put(user, {'password': 'theirs', 'tags': 'management'})
    theirs = api.get(user)
    refused = manage.run('--create')
    assert refused.status == 3
    assert f'{manage.user("publisher")}: not made by roles.py, and left alone' in refused.err
    assert refused.out == '' and api.get(user) == theirs
    assert manage.user('subscriber') not in [found['name'] for found in api.get('users')]
    assert (
        f'{manage.user("publisher")}: not made by roles.py, left alone'
        in manage.run('--remove').out
    )
    assert api.get(user) == theirs
    taken = manage.run('--create', '--overwrite')
    assert taken.status == 0
    assert 'overwritten' in taken.out
    assert manage.run('--check').status == 0


def test_users_with_permissions_on_another_virtual_host_stay(manage, api, url):
    other = f'{manage.vhost}-other'
    api.put(f'vhosts/{other}')
    try:
        manage.run('--create')
        assert manage.run('--create', AMQP_URL=url.replace(manage.vhost, other)).status == 0
        removed = manage.run('--remove')
        assert removed.status == 0
        assert removed.out.count(f'stays, because it has some on {unquote(other)}\n') == 4
        assert manage.run('--check', AMQP_URL=url.replace(manage.vhost, other)).status == 0
        checked = manage.run('--check')
        assert checked.status == 1
        assert checked.out.count('missing permission: connect is refused') == 4
    finally:
        api.delete(f'vhosts/{other}')


# ---- what is wrong is found


def test_an_unexpected_permission_is_found_and_named(manage, api):
    manage.run('--create')
    manage.permit('subscriber', '^$', 'amq.default', '.*')
    manage.permit('publisher', '^$', '.*', '.*')
    api.put(f'users/{manage.user("monitoring")}', {'password': 'x', 'tags': 'administrator'})
    checked = manage.run('--check')
    lines = checked.out.splitlines()
    assert checked.status == 1
    assert lines[-1].startswith('48 permissions tried, 28 allowed, 20 refused, 10 wrong')
    assert [line for line in lines if 'unexpected permission' in line] == [
        'subscriber: unexpected permission: publish is allowed',
        *(
            f'publisher: unexpected permission: {what} is allowed'
            for what in ('bind', 'consume', 'get', 'purge')
        ),
        *(
            f'monitoring: unexpected permission: {what} is allowed'
            for what in ('set a policy', 'create a user')
        ),
        "subscriber: unexpected permission: the pattern 'amq.default' for write, expected '^$'",
        "publisher: unexpected permission: the pattern '.*' for read, expected '^$'",
        "monitoring: unexpected permission: the tag 'administrator'",
    ]
    assert [line for line in lines if '!' in line and 'get' in line] == [
        'get             allowed        ALLOWED !      refused        allowed'
    ]
    assert 'missing permission' not in checked.out
    assert not left_behind(api, manage.vhost)


def test_a_permission_for_a_name_that_is_not_tried_is_found(manage):
    manage.run('--create')
    manage.permit('publisher', '', '.*', r'^siamese\.blocks$')
    checked = manage.run('--check')
    assert checked.status == 1
    assert checked.out.count('unexpected permission') == 1
    finding = (
        r"publisher: unexpected permission: the pattern '^siamese\\.blocks$' for read, "
        r"expected '^$'"
    )
    assert finding in checked.out


def test_the_permission_to_configure_is_found(manage):
    manage.run('--create')
    manage.permit('monitoring', '.*', '', '^$')
    checked = manage.run('--check', '--quiet')
    expected = ROLES['monitoring']
    assert checked.status == 1
    assert checked.out.splitlines()[:-1] == [
        'monitoring: unexpected permission: declare is allowed',
        'monitoring: unexpected permission: delete is allowed',
        "monitoring: unexpected permission: the pattern '.*' for configure, "
        f'expected {expected.configure!r}',
        "monitoring: missing permission: the pattern '^$' for write "
        f'is narrower than {expected.write!r}',
        "monitoring: missing permission: the pattern '^$' for read "
        f'is narrower than {expected.read!r}',
    ]


def test_a_tag_that_stands_for_what_is_not_tried_is_found(manage, api):
    manage.run('--create')
    for role, tags in (
        ('publisher', 'impersonator,siamese'),
        ('monitoring', 'monitoring,management'),
    ):
        api.put(f'users/{manage.user(role)}', {'password': 'x', 'tags': tags})
    checked = manage.run('--check', '--quiet')
    line, _ = checked.out.splitlines()
    assert checked.status == 1
    assert line == "publisher: unexpected permission: the tag 'impersonator'"


def test_a_permission_that_is_narrower_than_the_names_tried_is_found(manage):
    manage.run('--create')
    manage.permit('publisher', '^$', r'^amq\.default$', '^$')
    manage.permit('subscriber', '^$', '^$', r'^siamese\.check-')
    checked = manage.run('--check', '--quiet')
    assert checked.status == 1
    assert checked.out.splitlines()[:-1] == [
        r"subscriber: missing permission: the pattern '^siamese\\.check-' for read "
        "is narrower than '.*'",
        r"publisher: missing permission: the pattern '^amq\\.default$' for write "
        "is narrower than '.*'",
    ]


def test_a_missing_permission_is_found_and_named(manage, api):
    manage.run('--create')
    manage.permit('publisher', '^$', '^$', '^$')
    manage.permit('administrator', '.*', '.*', '^amq')
    api.put(f'users/{manage.user("monitoring")}', {'password': 'x', 'tags': 'management'})
    api.delete(f'permissions/{manage.vhost}/{manage.user("subscriber")}')
    checked = manage.run('--check')
    lines = [
        line.partition(' (')[0] for line in checked.out.splitlines() if 'missing permission' in line
    ]
    assert checked.status == 1 and 'unexpected permission' not in checked.out
    assert lines == [
        *(
            f'{role}: missing permission: {what} is refused'
            for role, what in (
                ('subscriber', 'connect'),
                ('publisher', 'publish'),
                ('monitoring', 'see all nodes'),
                ('administrator', 'bind'),
                ('administrator', 'consume'),
                ('administrator', 'get'),
                ('administrator', 'purge'),
            )
        ),
        "publisher: missing permission: the pattern '^$' for write is narrower than '.*'",
        "administrator: missing permission: the pattern '^amq' for read is narrower than '.*'",
    ]
    assert 'publish is refused (ACCESS_REFUSED - ' in checked.out


# ---- who may not create users


@pytest.fixture
def tenant(api, broker, url, manage):
    """The URLs of a user as a shared plan has it: everything in its virtual host, and no users."""
    name = f'{manage.prefix}-tenant'
    api.put(f'users/{name}', {'password': 'secret', 'tags': 'management'})
    put_permissions(api, unquote(manage.vhost), name, ['.*'] * 3)
    login = f'{name}:secret'
    yield {
        'AMQP_URL': url.replace('guest:guest', login),
        'MANAGEMENT_URL': broker.management_url.replace('guest:guest', login),
    }
    api.delete(f'users/{name}')


def test_a_user_who_may_not_create_users_is_told_so_and_checked(manage, tenant, api):
    made = manage.run('--create', **tenant)
    assert made.status == 3
    assert 'may not create or remove users (it is not an administrator, but management)' in made.err
    assert made.out == ''
    assert made.err.count('\n') == 1
    assert manage.run('--remove', **tenant).status == 3
    checked = manage.run('--check', **tenant)
    assert checked.status == 3 and 'may not create users' in checked.err
    assert checked.out.endswith(
        'stopped: not tried: subscriber, publisher, monitoring, administrator\n'
    )
    assert '12 permissions tried, 9 allowed, 3 refused, 0 wrong' in checked.out
    assert not left_behind(api, manage.vhost)


def test_it_still_checks_the_roles_whose_passwords_it_is_given(manage, tenant):
    manage.run('--create', **PASSWORDS)
    checked = manage.run(
        '--check', '--json', '-', **tenant, PUBLISHER_PASSWORD=PASSWORDS['PUBLISHER_PASSWORD']
    )
    summary = json.loads(checked.out)
    assert checked.status == 3
    assert set(summary['permissions']) == {
        f'{manage.prefix}-tenant',
        'publisher',
    }
    assert summary['findings'] == []
    assert summary['permissions']['publisher']['publish']
    manage.permit('publisher', '^$', '.*', '.*')
    checked = manage.run('--check', **tenant, **PASSWORDS)
    assert checked.status == 1
    assert checked.out.count('publisher: unexpected permission') == 4
    manage.permit('publisher', '^$', '.*', '^$')
    assert manage.run('--check', **tenant, **PASSWORDS).status == 0


def test_a_user_with_hardly_any_permission_is_checked_too(manage, url, broker):
    manage.run('--create', **PASSWORDS)
    login = manage.url('publisher').rpartition('@')[0].partition('//')[2]
    checked = manage.run(
        '--check',
        AMQP_URL=manage.url('publisher'),
        **PASSWORDS,
        MANAGEMENT_URL=broker.management_url.replace('guest:guest', login),
    )
    assert checked.status == 0, checked
    assert 'may not create users (the management API at ' in checked.err, checked


# ---- the roles at work

PAIRS = [
    (['producer.py', '--difficulty', 1], ['validate.py', '--difficulty', 1]),
    (['perf_producer.py'], ['perf_consumer.py']),
    (
        ['ack_producer.py', '--rate', 100],
        ['ack_consumer.py', '--reject', 0, '--lose', 0, '--ack', 100],
    ),
]


@pytest.mark.parametrize('producer, consumer', PAIRS)
def test_the_scripts_as_publisher_and_as_subscriber(manage, run, producer, consumer):
    manage.run('--create', **PASSWORDS)
    early = run(*producer, '--count', 3, '--url', manage.url('publisher'))
    assert early.status == 3
    assert 'lacks permission' in early.err
    assert 'let an administrator run this once' in early.err
    run(*consumer, '--idle', 0.1, '--url', manage.url('administrator'))  # it declares
    sent = run(*producer, '--count', 3, '--url', manage.url('publisher'))
    assert sent.status == 0, sent
    assert 'no permission to declare' in sent.err, sent
    assert 'Traceback' not in sent.err, sent
    for script, wrong, right in (
        (producer, 'subscriber', 'amq.default'),
        (consumer, 'publisher', "queue 'siamese."),
    ):
        for role in wrong, 'monitoring':
            refused = run(*script, '--count', 3, '--url', manage.url(role))
            assert refused.status == 3
            assert f"user '{manage.user(role)}' lacks permission" in refused.err
            assert right in refused.err and 'Traceback' not in refused.err
    got = run(*consumer, '--count', 3, '--idle', TEST_TIMEOUT_S, '--url', manage.url('subscriber'))
    assert got.status == 0 and '\n3 ' in f'\n{got.out}', got


def test_a_subscriber_rejects_into_the_dead_letters(manage, run, channel):
    manage.run('--create', **PASSWORDS)
    run('validate.py', '--idle', 0.1)
    channel.confirm_delivery()
    channel.basic_publish('', 'siamese.blocks', b'garbage')
    done = run('validate.py', '--count', 1, '--url', manage.url('subscriber'))
    assert done.status == 1 and '1 invalid' in done.out
    wait_until(
        lambda: channel.queue_declare('siamese.dead', passive=True).method.message_count == 1
    )


def test_the_permissions_that_the_rpc_scripts_need_besides(manage, run, start):
    """Those of docs/explanation/access.md."""
    manage.run('--create', **PASSWORDS)
    run('rpc_server.py', '--duration', 0.1)
    asked = run('rpc_client.py', '--count', 1, '--url', manage.url('publisher'))
    assert asked.status == 3
    assert 'lacks permission' in asked.err
    assert 'Traceback' not in asked.err
    manage.permit(
        'publisher', r'^siamese\.rpc\.', r'^(amq\.default|siamese\.dlx)$', r'^siamese\.rpc\.'
    )
    manage.permit('subscriber', '^$', r'^amq\.default$', r'^siamese\.rpc$')
    server = start('rpc_server.py', '--url', manage.url('subscriber'))
    asked = run('rpc_client.py', '--count', 5, '--verify', '--url', manage.url('publisher'))
    assert asked.status == 0, asked
    assert '5 answered' in asked.out, asked
    assert server.stop().status == 0, asked


def test_a_queue_that_is_deleted_ends_a_publisher(manage, run, start, channel):
    manage.run('--create', **PASSWORDS)
    run('validate.py', '--idle', 0.1)
    producer = start(
        'producer.py', '--difficulty', 1, '--rate', 20, '--url', manage.url('publisher')
    )
    producer.wait_for(' 3  ', producer.out)
    channel.queue_delete('siamese.blocks')
    done = producer.end()
    assert done.status == 3
    assert "nor does it exist: NOT_FOUND - no queue 'siamese.blocks'" in done.err


def test_monitoring_reads_the_api_and_no_secrets(manage, broker):
    manage.run('--create', **PASSWORDS)
    api = management_api.api(
        common.endpoints(manage.url('monitoring'), 'test')[0],
        broker.management_url.replace('guest:guest@', ''),
    )
    for path in 'overview', 'queues', 'connections', 'nodes', f'queues/{manage.vhost}':
        assert api.get(path) is not None
    for verb, path in (
        (api.get, 'users'),
        (api.get, 'permissions'),
        (api.delete, f'vhosts/{manage.vhost}'),
    ):
        with pytest.raises(management_api.Refused) as refused:
            verb(path)
        assert refused.value.status == 401
        assert 'secret-of' not in str(refused.value)


def test_monitoring_has_what_watching_takes(manage, url):
    """The dead letters, and a queue of its own for what the event exchange tells."""
    manage.run('--create', **PASSWORDS)
    connection = pika.BlockingConnection(pika.URLParameters(manage.url('monitoring')))
    with connection:
        for verb in (
            lambda channel: channel.queue_declare(
                'siamese.events-1', exclusive=True, auto_delete=True
            ),
            lambda channel: channel.queue_bind(
                'siamese.events-1', 'amq.rabbitmq.event', 'connection.*'
            ),
            lambda channel: channel.basic_consume('siamese.events-1', print),
            lambda channel: channel.basic_consume('siamese.dead', print),
        ):
            assert (
                permissions.refusal_by_amqp(
                    connection, lambda channel, _, verb=verb: verb(channel), ''
                )
                == ''
            )
        for queue in 'siamese.blocks', 'siamese.dead.letters':
            assert permissions.refusal_by_amqp(
                connection, lambda channel, queue: channel.basic_get(queue), queue
            )


def test_monitoring_can_watch(manage, run, broker, tmp_path):
    """As monitor.md tells it: a user with the tag monitoring, and no more than that."""
    manage.run('--create', **PASSWORDS)
    assert run('validate.py', '--idle', 0.1).status == 3  # it declares siamese.dead
    api = broker.management_url.replace('guest:guest@', '')
    flags = ('--url', manage.url('monitoring'), '--management-url', api)
    once = run('monitor.py', *flags, '--once', '--history', tmp_path / 'once.db')
    assert once.status == 0 and 'siamese.dead' in once.out, once.err
    history = ('--history', tmp_path / 'siamese.db')
    watched = run('monitor.py', *flags, *history, '--interval', 1, '--duration', 3)
    assert watched.status == 0 and 'no metrics' not in watched.err, watched.err


# ---- garbage, and whatever else happens


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ([], 'one of the arguments --create --check --remove is required'),
        (['--create', '--check'], 'not allowed with'),
        (['--create', '--json', '-'], '--json goes with --check'),
        (['--check', '--management-url', 'amqp://u:secret@h'], 'bad management URL'),
        (['--check', '--management-url', 'http://u:secret@h:x'], 'bad management URL'),
        (['--check', '--management-url', 'http://u:sec/ret@h'], 'bad management URL'),
        (['--check', '--url', 'amqp://u:secret@h:x'], 'bad AMQP URL'),
        (['--create', '--prefix', ''], 'printable'),
    ],
)
def test_bad_flags_take_one_line_and_tell_no_password(run, flags, complaint):
    done = run('roles.py', *flags)
    assert done.status == 2
    assert complaint in done.err
    assert done.err.count('\n') == 1
    assert done.out == ''
    assert 'secret' not in done.err and 'sec/ret' not in done.err


def test_an_unreachable_or_refusing_broker_takes_one_line(run, broker, url):
    no_api = broker.management_url.replace(str(broker.ports[0][2]), str(broker.ports[0][0]))
    for flag in '--create', '--check', '--remove':
        for env, complaint, status in (
            ({'MANAGEMENT_URL': 'http://guest:guest@127.0.0.1:1'}, 'Connection refused', 3),
            ({'MANAGEMENT_URL': no_api}, management_api.REMEDY, 3),
            (
                {'MANAGEMENT_URL': broker.management_url.replace('guest@', 'secret@')},
                "refuses user 'guest': wrong name or password",
                3,
            ),
        ):
            done = run('roles.py', flag, **env)
            assert done.status == status, done
            assert complaint in done.err, done
            assert done.out == '', done
            assert done.err.count('\n') == 1 and 'secret' not in done.err
    for bad, complaint, status in (
        (f'{url}-none', 'no virtual host', 3),
        ('amqp://guest:guest@127.0.0.1:1', 'Connection refused', 3),
    ):
        done = run('roles.py', '--check', '--url', bad, MANAGEMENT_URL=broker.management_url)
        assert done.status == status
        assert complaint in done.err
        assert done.err.count('\n') == 1
        assert done.out == ''
    done = run('roles.py', '--create', '--url', f'{url}-none', MANAGEMENT_URL=broker.management_url)
    assert done.status == 3
    assert 'no virtual host' in done.err
    assert done.out == ''


@contextlib.contextmanager
def held(url):
    """Yield the URL of a proxy, and two Events: reached and gate.

    When a check has made its users and its queue, the proxy sets `reached`,
    and holds the broker's answer until `gate` is set.
    """
    reached, gate = threading.Event(), threading.Event()

    def alter(data):
        if b'siamese.check-' in data:
            reached.set()
            gate.wait(TEST_TIMEOUT_S)
        return data

    with proxy.in_front_of(url, alter=alter) as between:
        yield between.url, reached, gate


@pytest.mark.parametrize(
    'numbers, status',
    [([signal.SIGINT], 3), ([signal.SIGTERM], 3), ([signal.SIGINT, signal.SIGTERM], 130)],
)
def test_a_check_that_is_interrupted_leaves_nothing(manage, api, url, numbers, status):
    manage.run('--create')
    with held(url) as (way, reached, gate):
        checking = manage.start('--check', AMQP_URL=way)
        assert reached.wait(TEST_TIMEOUT_S)
        assert (
            len([found for found in left_behind(api, manage.vhost) if 'tags' in found]) == 4
        )  # users
        for number in numbers:
            checking.send(number)
        gate.set()
        done = checking.end()
    assert done.status == status and 'Traceback' not in done.err, done
    assert f'stopped: {numbers[0].name}' in done.out or status == 130
    assert not left_behind(api, manage.vhost)


def test_what_a_killed_check_left_is_removed(manage, api, url):
    manage.run('--create')
    with held(url) as (way, reached, gate):
        checking = manage.start('--check', AMQP_URL=way)
        assert reached.wait(TEST_TIMEOUT_S)
        checking.stop(signal.SIGKILL)
        gate.set()
    assert [found for found in left_behind(api, manage.vhost) if 'tags' in found]
    manage.run('--remove')
    (queue,) = left_behind(api, manage.vhost)
    assert queue['arguments']['x-expires'] == 600_000  # it goes by itself


def test_a_broker_that_goes_away_during_a_check(manage, api, url):
    manage.run('--create')
    with proxy.in_front_of(url) as between:
        between.limit = 900  # bytes of each connection: it ends amid the tries
        done = manage.run('--check', AMQP_URL=between.url)
    assert done.status == 3, done
    assert 'cannot go on at 127.0.0.1' in done.err, done
    assert 'Traceback' not in done.err, done
    assert not [found for found in left_behind(api, manage.vhost) if 'tags' in found]
