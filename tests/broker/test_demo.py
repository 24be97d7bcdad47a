"""make demo: what it tells on a terminal and elsewhere, and that nothing is left of it."""

import json
import os
import random
import signal
import sys
import time
from types import SimpleNamespace
from xml.etree import ElementTree

import pyte
import pytest
import record
from support.demo import COMMAND, LONGEST_END_S, Traces, interrupt
from support.processes import Running, wait_until
from support.pseudo_terminal import OnTerminal
from support.queues import manage

NOBODY = 'amqp://127.0.0.1:1'
# Ctrl-C at so many moments; SIAMESE_DEMO_MOMENTS=40 is the long form.
MOMENTS = int(os.environ.get('SIAMESE_DEMO_MOMENTS', '2'))
WITHIN_S = 22  # about as long as it takes
STARTED_S = 0.5  # before that Python itself hears the signal


def on_broker(broker, url):
    """Return the names of all queues, and of exchanges of ours, in the virtual host of a URL."""
    vhost = url.rpartition('/')[2]
    queues = [each['name'] for each in json.loads(manage(broker, 'GET', f'queues/{vhost}'))]
    exchanges = [each['name'] for each in json.loads(manage(broker, 'GET', f'exchanges/{vhost}'))]
    return queues + [name for name in exchanges if name.startswith('siamese')]


@pytest.fixture(scope='module')
def shown(tmp_path_factory):
    """The demo with its own broker, as a terminal of 80 columns showed it."""
    folder = tmp_path_factory.mktemp('demo')
    traces = Traces(folder)
    demo = OnTerminal(*COMMAND, columns=80, env={**traces.env, 'AMQP_URL': ''})
    done = demo.end()
    screen = pyte.Screen(80, 40)
    stream = pyte.ByteStream(screen)
    frames = []
    for _, data in demo.chunks:
        stream.feed(data)
        frames.append('\n'.join(line.rstrip() for line in screen.display))
    return SimpleNamespace(
        status=done.status, text=done.text, frames=frames, traces=traces, chunks=demo.chunks
    )


def test_a_terminal_shows_a_lane_for_each_process(shown):
    assert shown.status == 0, shown.text
    for name in 'alice', 'bob', 'carol', 'dave':
        states = {
            line.partition('● ')[2]
            for frame in shown.frames
            for line in frame.split('\n')
            if line.startswith(f'{name} ')
        }
        assert states >= {'starting', 'working', 'cut off', 'done'}, name
    # In place: nowhere a lane twice.
    assert all(frame.count('alice  producer') <= 1 for frame in shown.frames)


@pytest.mark.pair
def test_the_demo_ends_with_what_was_proved(shown):
    last = shown.frames[-1]
    assert 'kill -9: the broker is dead' in last
    assert '600  confirmed' in last and '600  ok' in last and ' other kinds' in last
    assert '\033[32mvalid: every confirmed message' in shown.text
    assert shown.text.count('Proved: the broker was killed') == 1
    assert 'Try next:' in last


@pytest.mark.pair
def test_the_demo_leaves_nothing(shown):
    shown.traces.assert_none()


def test_a_fault_that_comes_late_proves_what_it_can(tmp_path):
    """As on a machine so slow that the producers are done before the broker is killed."""
    traces = Traces(tmp_path)
    late = 'import story; story.BLOCKS = 5; story.FAULT_AT = 10; story.script.run(story.main)'
    env = {**traces.env, 'AMQP_URL': '', 'PYTHONPATH': 'demos:.'}
    done = Running(sys.executable, '-c', late, env=env).end()
    assert done.status == 0, done.out + done.err
    assert 'the broker was killed while two validators were at work' in done.out
    assert 'all 10 blocks' in done.out
    traces.assert_none()


def test_with_a_broker_of_the_users_its_connections_are_cut(broker, url, tmp_path):
    """In a pipe: plain lines."""
    traces = Traces(tmp_path)
    done = Running(*COMMAND, env={**traces.env, 'AMQP_URL': url}).end()
    assert done.status == 0, done.out + done.err
    assert 'it is yours, so it is not killed' in done.out
    assert 'every connection of the demo is cut' in done.out
    assert '4 cut off' in done.out and '\033' not in done.out + done.err
    assert 'Proved: all connections were cut while two producers' in done.out
    assert on_broker(broker, url) == []
    traces.assert_none()


def assert_interrupted(end):
    """Assert that the demo said nothing more, unless it was over already."""
    assert end.status == 130 or (end.status == 0 and 'Try next:' in end.text), end
    assert 'Traceback' not in end.text, end


@pytest.mark.parametrize('_moment', range(MOMENTS))
def test_ctrl_c_leaves_nothing(tmp_path, _moment):
    end = interrupt(tmp_path, None, random.uniform(STARTED_S, WITHIN_S), AMQP_URL='')
    assert_interrupted(end)
    assert end.took_s < LONGEST_END_S, end


@pytest.mark.parametrize('number', [None, signal.SIGTERM], ids=['ctrl-c', 'sigterm'])
@pytest.mark.parametrize('_moment', range(MOMENTS))
def test_a_signal_leaves_nothing_on_the_users_broker(broker, url, tmp_path, _moment, number):
    end = interrupt(tmp_path, number, random.uniform(STARTED_S, WITHIN_S / 2), AMQP_URL=url)
    assert_interrupted(end)
    assert end.took_s < LONGEST_END_S, end
    assert on_broker(broker, url) == [], end


@pytest.mark.parametrize('why', ['password', 'nobody'])
def test_a_broker_that_does_not_take_us_takes_one_line(broker, url, tmp_path, why):
    bad = {'password': url.replace('guest:guest', 'guest:secret'), 'nobody': NOBODY}[why]
    traces = Traces(tmp_path)
    done = Running(*COMMAND, env={**traces.env, 'AMQP_URL': bad}).end()
    assert done.status == 3 and done.err.count('\n') == 1, done.err
    assert 'AMQP_URL' in done.err and 'secret' not in done.err + done.out
    traces.assert_none()


def test_with_no_color_there_is_no_escape(tmp_path):
    demo = OnTerminal(*COMMAND, env={'AMQP_URL': NOBODY, 'NO_COLOR': '1', 'TMPDIR': str(tmp_path)})
    assert '\033' not in demo.end().text


# ---- make perf


def test_make_perf_shows_both_sides_and_one_summary(broker, url, tmp_path):
    traces = Traces(tmp_path)
    flags = ('--duration', 2.5, '--rate', 200, '--prefetch', 50, '--persistent')
    done = Running('demos/perf.py', *flags, env={**traces.env, 'AMQP_URL': url}).end()
    assert done.status == 0, done.out + done.err
    head, *rows = [line for line in done.out.split('\n\n')[0].split('\n')[1:] if line]
    assert head.split()[:4] == ['time', 'published', 'confirmed', 'delivered']
    assert rows and all(row.split()[2:5] for row in rows)
    assert 'messages arrived, and every byte was right' in done.out.splitlines()[-1]
    assert on_broker(broker, url) == []
    traces.assert_none()


def test_make_perf_names_a_flag_that_nobody_knows(broker, url, tmp_path):
    traces = Traces(tmp_path)
    done = Running('demos/perf.py', '--nonsense', env={**traces.env, 'AMQP_URL': url}).end()
    assert done.status == 2 and 'unrecognized arguments --nonsense' in done.err
    assert on_broker(broker, url) == []
    traces.assert_none()


def test_a_signal_ends_make_perf(broker, url, tmp_path):
    traces = Traces(tmp_path)
    running = Running('demos/perf.py', env={**traces.env, 'AMQP_URL': url})
    running.wait_for(' ms', running.out)
    assert running.stop(signal.SIGTERM).status == 130
    assert on_broker(broker, url) == []
    traces.assert_none()


# ---- with make


@pytest.fixture
def make(copy, tmp_path_factory):
    """A copy in which make finds all set up, and the traces of what is started there."""
    (copy / '.venv/bin').mkdir(parents=True)
    (copy / '.venv/bin/activate').write_text(f'PATH={os.path.dirname(sys.executable)}:$PATH\n')
    (copy / '.venv/demo').touch()
    (copy / 'tools/setup.sh').write_text('#!/bin/sh\n')
    return copy, Traces(tmp_path_factory.mktemp('traces'))


def test_ctrl_c_ends_make_demo(make):
    copy, traces = make
    command = ('make', '--old-file=tools/setup.sh', 'demo')
    demo = OnTerminal(*command, cwd=copy, env={**traces.env, 'AMQP_URL': ''})
    wait_until(lambda: '● working' in demo.text, 'the lanes')
    asked = time.monotonic()
    demo.type(b'\x03')
    done = demo.end()
    assert time.monotonic() - asked < LONGEST_END_S
    assert done.status and 'Traceback' not in done.text
    assert done.text.count('\033[?25h') >= 1  # the cursor is back
    traces.assert_none()


def test_sigterm_to_make_ends_the_demo(make):
    copy, traces = make
    command = ('make', '--old-file=tools/setup.sh', 'demo')
    demo = Running(*command, cwd=copy, env={**traces.env, 'AMQP_URL': ''})
    demo.wait_for('two producers mine blocks', demo.out)
    asked = time.monotonic()
    assert demo.stop(signal.SIGTERM).status
    assert time.monotonic() - asked < LONGEST_END_S
    traces.assert_none()


# ---- the moving picture


def test_the_record_becomes_a_picture_that_ends_with_the_verdict(shown):
    frames = record.frames_of([(0.0, record.PROMPT), *shown.chunks])
    picture = ElementTree.fromstring('\n'.join(record.svg_of(frames)))
    svg = '{http://www.w3.org/2000/svg}'
    texts = {each.get('id'): ''.join(each.itertext()) for each in picture.iter(f'{svg}text')}
    strip = picture.find(f'{svg}g').findall(f'{svg}g')
    assert len(strip) == len(frames) > 20
    first, last = (
        [texts[use.get('href')[1:]] for use in frame.findall(f'{svg}use')]
        for frame in (strip[0], strip[-1])
    )
    assert first == ['$ make demo'] and any(line.startswith('Proved: ') for line in last)
    assert sum(frame.seconds for frame in frames) < 90
