"""Where scripts answer over HTTP, and how long a login lasts."""

import argparse
import asyncio
import math
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from siamese import start
from siamese.messaging import credentials
from siamese.web import login, server

TOKEN = (  # {"sub":"alice","exp":1790000300}
    'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTc5MDAwMDMwMH0.c2ln'
)


@pytest.mark.parametrize(
    'host, expected',
    [
        ('127.0.0.1', True),
        ('127.1.2.3', True),
        ('::1', True),
        ('localhost', True),
        ('0.0.0.0', False),
        ('::', False),
        ('10.0.0.1', False),
        ('example.org', False),
        ('', False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, expected):
    assert server.is_loopback(host) is expected


def test_a_signal_that_came_before_the_server_began_ends_it(monkeypatch):
    monkeypatch.setattr(start, 'signals', [signal.SIGTERM])
    args = argparse.Namespace(
        duration=None,
        verbose=False,
        certfile=None,
        keyfile=None,
        proxy=None,
    )

    async def application(scope, receive, send):
        raise AssertionError('nobody asks')

    with socket.create_server(('127.0.0.1', 0)) as listening:
        serving = server.serve(args, listening, application, lifespan='off')
        # In a thread: a browser test may have left a loop in this one.
        with ThreadPoolExecutor() as pool:
            pool.submit(asyncio.run, asyncio.wait_for(serving, 10)).result()


def test_a_token_ends_the_session_when_it_expires():
    assert credentials.expiry(TOKEN) == 1790000300
    for text in 'guest', 'a.b.c', 'a.bnVsbA.c', 'a.eyJleHAiOiJ4In0.c', '..':
        assert credentials.expiry(text) == math.inf


def test_the_login_of_the_management_url_is_not_used_for_others():
    assert login.without_login('http://a:b@host:15672') == 'http://host:15672'
    assert login.without_login('http://host:15672/x') == 'http://host:15672/x'
    assert login.without_login(None) is None


def test_a_session_that_ended_is_none():
    ended = login.begin(login.Session('alice', False, time.monotonic()))
    open_one = login.begin(login.Session('bob', True, math.inf))
    assert login.session_of(ended) is None
    assert login.session_of(open_one).user == 'bob'
    login.end(open_one)
    assert login.session_of(open_one) is None


@pytest.mark.parametrize('jump_s', [-7200, 0, 7200])
def test_a_session_lasts_as_long_as_it_should_whatever_the_clock_does(jump_s, monkeypatch):
    monotonic, clock = time.monotonic(), time.time()
    cookie = login.begin(login.Session('alice', False, monotonic + 3600))
    monkeypatch.setattr(login.time, 'time', lambda: clock + jump_s)
    for passed_s, is_there in ((0, True), (3599, True), (3600, False)):
        monkeypatch.setattr(login.time, 'monotonic', lambda at=monotonic + passed_s: at)
        assert bool(login.session_of(cookie)) == is_there
