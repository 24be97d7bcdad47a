"""Dead letters whose acknowledgements never arrive: told once, on the page and by mail."""

import contextlib
import re
from functools import partial

import pika
import pytest
from playwright.sync_api import expect
from support.mailbox import listed_ids, new_mailbox
from support.messages import declare_dead
from support.monitor import dead_ids, is_back, locked, reader
from support.processes import wait_for_value, wait_until
from support.queues import waiting

from siamese.monitoring import database, dead_letters
from siamese.testbed import proxy
from siamese.web.tables import SIZES

BATCHES = 5
BATCH = dead_letters.PREFETCH  # so many are unacknowledged at a time
LETTERS = BATCHES * BATCH
BREAKS = 5  # while each batch is unacknowledged


@pytest.fixture
def mailbox(tmp_path):
    """A Mailbox that takes mails."""
    mailbox = new_mailbox(tmp_path)
    mailbox.controller.start()
    yield mailbox
    mailbox.controller.stop()


def publish(channel, message_id):
    properties = pika.BasicProperties(message_id=message_id, headers={'z': 1, 'a': 2})
    channel.basic_publish('siamese.dlx', '', b'', properties)


def has_stored_over(db, channel, batch):
    """Return whether a batch was stored, or seen again, over a channel of the monitor."""
    select = 'SELECT count(*) AS count FROM dead WHERE session LIKE ? AND message_id LIKE ?'
    return db.execute(select, [f'%-{channel}', f'letter-{batch}-%']).fetchone()['count'] == BATCH


def lose_acknowledgements(between, monitor, db, path, batch):
    """Break the connection again and again, each time before an acknowledgement has arrived."""
    first = batch * BREAKS + 1
    for number in range(first, first + BREAKS):
        wait_until(partial(has_stored_over, db, number, batch), f'channel {number}')
        with locked(path):  # until acknowledgements are held again
            between.cut()
            between.release()
            wait_until(partial(is_back, monitor, number), 'the monitor')
            between.hold('up')
    last = first + BREAKS
    wait_until(partial(has_stored_over, db, last, batch), f'channel {last}')


def ids_on_the_page(tab, base):
    """Return the message ids that the table of dead letters shows, page by page."""
    shown = []
    size = SIZES[0]
    for first in range(0, LETTERS, size):
        tab.goto(f'{base}/dead?page={first // size + 1}')
        region = tab.get_by_role('region', name='dead letters')
        expect(region).to_contain_text(f'{first + 1}-{first + size} of {LETTERS}')
        shown += re.findall(r'letter-\d+-\d+', region.inner_text())
    return sorted(shown)


@pytest.mark.pair
def test_each_dead_letter_is_told_once_however_often_its_acknowledgement_is_lost(
    start, broker, url, channel, tmp_path, file, serve, visit, mailbox
):
    declare_dead(channel)
    ids = [f'letter-{batch}-{number:02}' for batch in range(BATCHES) for number in range(BATCH)]
    with proxy.in_front_of(url) as between:
        flags = ('--history', file, '--management-url', broker.management_url)
        mail = ('--mail-to', 'ops@example.org', '--mail-every', 0)
        where = {'AMQP_URL': between.url, 'SMTP_URL': mailbox.smtp}
        monitor = start('monitor.py', *flags, *mail, '--interval', 3600, **where)
        with contextlib.closing(reader(file)) as db:
            wait_until(lambda: database.get_fact(db, 'collected'), 'a collection')
            for batch in range(BATCHES):
                between.hold('up')  # no acknowledgement arrives
                for message_id in ids[batch * BATCH :][:BATCH]:
                    publish(channel, message_id)
                lose_acknowledgements(between, monitor, db, file, batch)
                between.release()
                wait_for_value(lambda: waiting(channel, 'siamese.dead'), 0)
            wait_for_value(lambda: listed_ids(mailbox), ids)
            base = serve()
            assert ids_on_the_page(visit(base), base) == dead_ids(db) == ids
        publish(channel, 'last')
        wait_until(lambda: 'last' in listed_ids(mailbox), 'the last mail')
        assert monitor.stop().status == 0
    assert listed_ids(mailbox) == ['last', *ids]
