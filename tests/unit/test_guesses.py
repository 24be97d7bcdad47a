"""Who guesses passwords waits; nobody else does, and not for ever."""

from siamese import hosts
from siamese.web import guesses
from siamese.web.guesses import Guesses


def in_an_hour(pairs):
    """Return how many guesses are taken in an hour, of one each half second."""
    them = Guesses()
    return sum(not them.wait_s(*pairs[number % len(pairs)], number / 2) for number in range(7200))


def test_an_address_has_few_guesses_whatever_the_user():
    users = [(f'user{number}', '192.0.2.1') for number in range(1000)]
    assert in_an_hour(users) < 60 + 20


def test_a_user_is_guessed_slowly_from_wherever():
    addresses = [('alice', f'192.0.2.{number}') for number in range(256)]
    assert in_an_hour(addresses) < 3600 / 8 + 20


def test_a_password_of_ones_own_does_not_buy_guesses():
    them = Guesses()
    taken = 0
    for now in range(0, 3600, 2):
        taken += not them.wait_s(f'user{now}', '192.0.2.1', now)
        if not them.wait_s('mallory', '192.0.2.1', now + 1):
            them.right('mallory', '192.0.2.1')
    assert taken < 100


def test_who_knows_the_password_never_waits():
    them = Guesses()
    for _ in range(100):
        assert not them.wait_s('alice', '192.0.2.1', 0)
        them.right('alice', '192.0.2.1')


def test_a_stranger_keeps_a_user_out_for_seconds_only():
    them = Guesses()
    for now in range(3600):
        them.wait_s('alice', '192.0.2.1', now)
    assert 0 <= them.wait_s('alice', '192.0.2.2', 3600) <= 8


def test_after_a_while_it_is_forgotten():
    them = Guesses()
    for _ in range(10):
        them.wait_s('alice', '192.0.2.1', 0)
    assert them.wait_s('alice', '192.0.2.1', 0) > 0
    assert not them.wait_s('alice', '192.0.2.1', guesses.FORGET_AFTER_S + 1)


def test_it_does_not_remember_without_end():
    them = Guesses()
    for number in range(guesses.MAX_KEYS + 10):
        them.wait_s(f'user{number}', f'10.0.{number // 256}.{number % 256}', 0)
    assert len(them.records) == guesses.MAX_KEYS


def test_a_network_of_ipv6_is_one_sender():
    assert hosts.sender('2001:db8::1') == hosts.sender('2001:db8::ffff:2')
    assert hosts.sender('2001:db8:0:1::1') != hosts.sender('2001:db8::1')
    assert hosts.sender('::ffff:192.0.2.1') == '192.0.2.1'
    assert hosts.sender('fe80::1%eth0') == 'fe80::/64'
    assert hosts.sender('192.0.2.1') == '192.0.2.1' and hosts.sender('') == ''
