"""README and docs/how-to/, followed word for word in a clean copy, and a second time.

On a broker without plugins, unless the page asks for the management API.
"""

import os
import re
import threading

import pika
import pytest
from support.documents import HOW_TO, environment, in_one_shell, steps_of
from support.queues import kill_broker

from siamese import ROOT
from siamese.testbed import rabbitmq

pytestmark = pytest.mark.pair

# Every queue of the scripts has messages of somebody else, the second time.
QUEUES = ('siamese.blocks', 'siamese.perf', 'siamese.ack', 'siamese.rpc', 'siamese.dead')
SUDO = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "$*" > asked
cat restarted
"""
RESTART = ROOT / 'docs/how-to/prove-a-restart-loses-nothing.md'
OTHERS = [page for page in HOW_TO if page != RESTART]


@pytest.fixture(scope='module')
def plain():
    """A broker as it is after its installation."""
    with rabbitmq.throwaway() as broker:
        yield broker


def leave_something(url):
    """Put leftovers into the queues that the scripts have made, and into siamese.dead."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.basic_publish('', queue, b'left over')  # no queue, no leftovers


def restart_when_asked(broker, folder):
    """Put a command sudo into a folder, which kills this broker and starts it again, once.

    Returns what sudo was asked for: a list that is empty until then.
    """
    for name in ('asked', 'restarted'):
        os.mkfifo(folder / name)
    (folder / 'sudo').write_text(SUDO)
    (folder / 'sudo').chmod(0o755)
    asked = []

    def restart():
        asked.append((folder / 'asked').read_text().strip())  # waits until sudo writes
        kill_broker(broker)
        broker.start()
        (folder / 'restarted').write_text('')

    threading.Thread(target=restart, daemon=True).start()
    return asked


def verdicts(shown):
    """Return the verdicts of the audits in an output, without what they count."""
    return re.findall(r'^(valid|invalid|unknown): ', ''.join(shown), re.MULTILINE)


@pytest.mark.parametrize('page', OTHERS, ids=lambda page: page.stem)
def test_the_commands_of_a_how_to_page(copy, broker, url, plain, page):
    needs_management = 'management API' in page.read_text()
    variables = {'AMQP_URL': plain.url}
    if needs_management:
        variables = {'AMQP_URL': url, 'MANAGEMENT_URL': broker.management_url}
    steps = steps_of(page)
    first = in_one_shell(steps, copy, **variables)
    leave_something(variables['AMQP_URL'])
    again = in_one_shell([(command, '') for command, _ in steps], copy, **variables)
    assert verdicts(first) == verdicts(again)


def test_the_broker_restarts_in_the_how_to_page_about_that(copy, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bin')
    with rabbitmq.throwaway() as broker:
        asked = restart_when_asked(broker, folder)
        path = f'{folder}:{environment()["PATH"]}'
        shown = in_one_shell(steps_of(RESTART), copy, AMQP_URL=broker.url, PATH=path)
    assert asked == ['systemctl restart rabbitmq-server']
    assert verdicts(shown) == ['valid']
    assert ' disconnected' in (copy / 'runs/restart.jsonl').read_text().replace('"', ' ')
