"""common.py: URLs, blocks, primes, without a broker; TLS and several URLs with one."""

import hashlib
import json
import re
import subprocess
import sys
import tracemalloc

import pika
import pytest
import sympy
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

import common
from siamese.scenarios import mining

GOLDEN = {
    'hash': '00004913ba4dc384985524eda948b9b66d9b43fb9be10c9be55c60a9809fe887',
    'proof': 909451,
}  # the wiki's


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def test_the_block_of_the_wiki_is_found():
    assert common.block_hash({'hash': '', 'proof': 100003}, 909451) == GOLDEN['hash']
    assert mining.mine(common.GENESIS, 4, 909_450, 909_451) == (GOLDEN, 1)


@given(
    st.text('0123456789abcdef', min_size=64, max_size=64),
    st.integers(2, 10**9),
    st.integers(0, 2),
    st.integers(2, 10**6),
)
def test_an_independent_check_finds_a_mined_block_valid(parent, proof, zeros, low):
    block, attempts = mining.mine({'hash': parent, 'proof': proof}, zeros, low, low + 200_000)
    assert (
        block['hash']
        == hashlib.sha256((parent + str(proof) + str(block['proof'])).encode()).hexdigest()
    )
    assert block['hash'][:zeros] == '0' * zeros
    assert is_prime(block['proof']) and low < block['proof'] <= low + 200_000
    assert attempts >= 1


def test_proofs_are_spread_over_the_range():
    proofs = {mining.mine(common.GENESIS, 1)[0]['proof'] for _ in range(50)}
    assert len(proofs) > 40 and min(proofs) < 8_000_000 and max(proofs) > 17_000_000


@given(st.integers(0, 60 * mining.WINDOW_SIZE), st.integers(0, 3000))
@example(0, 100)
@example(mining.WINDOW_SIZE - 50, 100)
@example(10**12 // mining.WINDOW_SIZE * mining.WINDOW_SIZE + 7, 500)
def test_odd_primes_are_those_of_sympy(first, length):
    stop = min(first + length, (first // mining.WINDOW_SIZE + 1) * mining.WINDOW_SIZE)
    assert list(mining.odd_primes(first, stop)) == [
        p for p in sympy.primerange(first, stop) if p > 2
    ]


@given(st.integers(2, 3 * mining.WINDOW_SIZE), st.integers(0, 2 * mining.WINDOW_SIZE))
@example(100, mining.WINDOW_SIZE)
def test_the_windows_cover_a_range_once(first, length):
    windows = list(mining._windows(first, first + length))
    assert [n for pair in windows for n in pair][1:-1:2] == [n for pair in windows for n in pair][
        2::2
    ]
    assert not length or (windows[0][0], windows[-1][1]) == (first, first + length)
    assert all(a // mining.WINDOW_SIZE == (b - 1) // mining.WINDOW_SIZE for a, b in windows)


def test_a_range_without_solution_is_tried_once_and_noticed():
    turns = []
    with pytest.raises(
        common.Failure, match='none of the 8392 primes .* use a smaller --difficulty'
    ) as caught:
        mining.mine(
            common.GENESIS, 16, 100_000, 200_000, keep_going=lambda: turns.append(1) or True
        )
    assert caught.value.status == 2 and turns
    assert sum(1 for n in range(100_001, 200_001) if is_prime(n)) == 8392


def test_a_range_without_primes_is_noticed():
    with pytest.raises(common.Failure, match='no prime lies between 24 and 27; use a larger --max'):
        mining.mine(common.GENESIS, 0, 24, 27)


def test_a_search_can_be_ended():
    assert mining.mine(common.GENESIS, 64, 10**11, 10**12, keep_going=lambda: False)[0] is None


def test_the_widest_range_takes_no_memory():
    tracemalloc.start()
    try:
        mining.mine(common.GENESIS, 64, 2, 10**12, keep_going=lambda: False)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    'zeros, low, high, warning',
    [
        (4, mining.MIN_PROOF, mining.MAX_PROOF, ''),
        (4, 100_000, 999_999, 'one block in 3 has no solution .* use --max 25600000'),  # e**-1.05
        (5, mining.MIN_PROOF, mining.MAX_PROOF, 'one block in 4 .* use --max 409600000'),
        (20, 2, 10**12, 'one block in 1 .* use a smaller --difficulty'),
        (0, 2, 1000, ''),
    ],
)
def test_a_range_that_may_hold_no_solution_is_warned_of(zeros, low, high, warning):
    assert re.match(warning + '$', mining.unsolvable_warning(zeros, low, high))


@pytest.mark.parametrize('number', [0, 1, 2, 3, 4, 100_003, 909_451, 909_453, 2**61 - 1, -7])
def test_prime_checks(number):
    assert common.is_prime(number) == sympy.isprime(number)
    assert sympy.isprime(mining.next_prime(number)) and mining.next_prime(number) > number


# ---- URLs


@pytest.mark.parametrize(
    'url, host, port, vhost, user, password',
    [
        ('amqp://', None, None, None, None, None),
        ('amqp://h', 'h', 5672, '/', 'guest', 'guest'),
        ('amqp://h/', 'h', 5672, '/', 'guest', 'guest'),
        ('amqp://u:p@h:99/v', 'h', 99, 'v', 'u', 'p'),
        ('amqp://u%40x:p%2F%3A%23%3F@h/%2Fa%2Fb', 'h', 5672, '/a/b', 'u@x', 'p/:#?'),
        ('amqp://u@h', 'h', 5672, '/', 'u', ''),
        ('amqp://:token@h', 'h', 5672, '/', '', 'token'),
        ('amqp://u:p@[::1]:5673/v', '::1', 5673, 'v', 'u', 'p'),
        ('amqp://[fe80::1%25eth0]', 'fe80::1%eth0', 5672, '/', 'guest', 'guest'),
        ('amqp://u:a@b:c@h:7', 'h', 7, '/', 'u', 'a@b:c'),
        ('amqps://u:p@h', 'h', 5671, '/', 'u', 'p'),
    ],
)
def test_urls(url, host, port, vhost, user, password):
    if host is None:
        with pytest.raises(ValueError, match='host is missing'):
            common.endpoints(url, 'me')
        return
    (parameters,) = common.endpoints(url, 'me')
    assert (parameters.host, parameters.port, parameters.virtual_host) == (host, port, vhost)
    assert (parameters.credentials.username, parameters.credentials.password) == (user, password)
    assert parameters.heartbeat == 10 and parameters.client_properties['connection_name'] == 'me'
    assert (parameters.ssl_options is not None) == url.startswith('amqps')


def test_several_urls_and_query_parameters():
    first, second = common.endpoints(
        'amqp://a?heartbeat=5&connection_timeout=1500, amqp://b/x?channel_max=7', 'me'
    )
    assert (first.host, first.heartbeat, first.socket_timeout) == ('a', 5, 1.5)
    assert (second.host, second.virtual_host, second.channel_max) == ('b', 'x', 7)


@pytest.mark.parametrize(
    'url, complaint',
    [
        ('', 'no AMQP URL'),
        (' , ', 'no AMQP URL'),
        ('http://h', 'begin with amqp'),
        ('h:5672', 'begin with amqp'),
        ('amqp://h:99999', 'port'),
        ('amqp://h:x', 'port'),
        ('amqp://h:0', 'the port is no number from 1 to 65535$'),
        ('amqp://u:se/cret@h', 'write a / in it as %2F$'),
        ('amqp://u:se#cret@h', 'write a # in it as %23$'),
        ('amqp://u:se?cret@h', r'write a \? in it as %3F$'),
        ('amqp://u:se,cret@h', 'write a comma in it as %2C'),
        ('amqp://u:se cret@h', 'a blank as %20'),
        ('amqp://u:se[cret@h', r'write a \[ in user or password as %5B'),
        ('amqp://u:se]cret@h', 'a ] as %5D'),
        ('amqp://a,b:5672', 'write a comma in it'),
        ('amqp://fe80::1:5672', 'IPv6 address in brackets'),
        ('amqp://[nonsense]', 'an IPv6 address is hexadecimal'),
        ('amqps://h?auth_mechanism=external', 'with a certfile'),
        ('amqps://h?auth_mechanism=amqplain', 'auth_mechanism is plain, or external'),
        ('amqp://u:1#secret@h', '%23'),
        ('amqp://h/a/b', '%2F'),
        ('amqp://h?nonsense=1', 'unknown parameter'),
        ('amqp://h?heartbeat=-1', 'out of range'),
        ('amqp://h?heartbeat=x', 'out of range'),
        ('amqp://h?connection_timeout=x', r'connection_timeout is out of range \(ms\)'),
        ('amqp://h?verify=verify_none', 'need amqps'),
        ('amqps://h?verify=maybe', 'verify_peer'),
        ('amqps://h?cacertfile=/none', 'cannot read'),
        ('amqp://[::1', 'URL'),
        ('amqps://h?cacertfile=%00', 'cannot read'),
        ('amqp://h/\udcff', 'cannot be printed'),
        ('amqp://h/\x7f', 'cannot be printed'),
        (f'amqp://h?connection_timeout=1{"0" * 400}', 'connection_timeout is out of range'),
        ('amqp://h?heartbeat=65536', 'up to 65535'),
        (f'amqp://h/{"v" * 256}', 'more than 255 bytes'),
        ('amqp://a..b', 'neither a name nor an address'),
        (f'amqp://{"a" * 64}.b', 'neither a name nor an address'),
        ('amqps://h?server_name_indication=.x', 'cannot read server_name_indication'),
    ],
)
def test_bad_urls_say_what_is_wrong(url, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        common.endpoints(url, 'me')
    assert '\n' not in str(caught.value)


@given(
    st.text(st.characters(codec='utf-8'), min_size=1, max_size=12).map(
        lambda text: f'S3{text}cr3t'
    ),
    st.sampled_from(
        [
            'amqp://user:{}@host:5672/v',
            'amqp://{}@host',
            'amqps://u:{}@[::1',
            'amqp://u:{}@h:x/',
            'amqp:{}',
            'amqp://u:p@h/v?{}',
            'amqp://u:p@h?heartbeat={}',
            'amqp://u:p@h?cacertfile=x&password={}',
        ]
    ),
)
def test_no_error_repeats_a_secret(secret, form):
    try:
        common.endpoints(form.format(secret), 'me')
    except ValueError as error:
        assert 'S3' not in str(error) and 'cr3t' not in str(error)


def test_the_printable_form_of_a_url_has_no_password():
    assert (
        common.display_address(common.endpoints('amqp://u:secret@h:1/%2Fx', 'me')[0]) == 'h:1/%2Fx'
    )


@pytest.mark.parametrize('url', ['amqp://[::1]:1/v', 'amqp://[fe80::1%25eth0]:5672/%2F'])
def test_an_ipv6_address_is_printed_so_that_it_can_be_pasted_back(url):
    (parameters,) = common.endpoints(url, 'me')
    assert f'amqp://{common.display_address(parameters)}' == url


def test_a_client_certificate_is_the_login_if_the_url_says_so(tmp_path):
    path = tmp_path / 'both.pem'
    trustme.CA().issue_cert('someone').private_key_and_cert_chain_pem.write_to_path(str(path))
    (parameters,) = common.endpoints(
        f'amqps://h?auth_mechanism=external&certfile={path}&keyfile={path}', 'me'
    )
    assert isinstance(parameters.credentials, pika.credentials.ExternalCredentials)


def test_nothing_costly_is_imported():
    code = (
        'import sys, json, common, siamese.messaging.link, siamese.verdict;'
        'print(json.dumps(sorted(sys.modules)))'
    )
    modules = json.loads(
        subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, check=True).stdout
    )
    assert 'pika' in modules and 'sympy' not in modules
