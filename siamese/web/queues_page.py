"""What the dashboard shows of queues: all of them, one of them, and their history."""

import time
from urllib.parse import quote

from siamese.monitoring import clients, queues
from siamese.monitoring import database as history
from siamese.monitoring import dead_letters as dead
from siamese.text import duration, printable
from siamese.web.page import DAY, read_history
from siamese.web.widgets import (
    box,
    chart,
    column,
    count,
    empty,
    fill,
    finder,
    rate,
    say,
    smooth,
    spark,
    table,
    tile,
    toggle,
    view_of,
)

STILL = 60  # s for which a message may wait although there is a consumer
SPANS = {
    'hour': ('Hour', 48, '%d %b %H:%M'),
    'day': ('Day', 31, '%d %b'),
    'month': ('Month', 24, '%b %Y'),
    'year': ('Year', 10, '%Y'),
}  # of the history: label, how many, strftime


QUEUE_COLUMNS = [
    column('name', 'Queue', 'link', True, first=True),
    column('state', 'State', 'state'),
    column('ready', 'Ready', 'number', True),
    column('unacked', 'Unacked', 'number', True),
    column('consumers', 'Consumers', 'number', True),
    column('oldest', 'Oldest', 'number', True),
    column('publish_rate', 'Sent/s', 'number', True),
    column('deliver_rate', 'Received/s', 'number', True),
    column('spark', 'Sent, 15 min', 'spark'),
]


def queue_row(row, recent, now):
    stuck = (
        row['ready']
        and not row['deliver_rate']
        and now - row['oldest_since'] > STILL
        and row['type'] != 'stream'
    )  # which keeps what was read
    tone, state = (
        ('off', row['state'] or 'new')
        if row['state'] != 'running'
        else ('warn', 'no consumer')
        if row['alone_since']
        else ('warn', 'not read')
        if stuck
        else ('good', 'active')
        if row['publish_rate'] or row['deliver_rate']
        else ('off', 'idle')
    )
    values = [sample[3] for sample in smooth(recent)]
    return {
        'id': row['name'],
        'name': printable(row['name']),
        'href': f'/queue?name={quote(row["name"], safe="")}',
        'state': state,
        'tone': tone,
        'ready': count(row['ready']),
        'unacked': count(row['unacked']),
        'consumers': count(row['consumers']),
        'publish_rate': rate(row['publish_rate']),
        'deliver_rate': rate(row['deliver_rate']),
        'spark': spark(values),
        'oldest': duration(now - row['oldest_since']) if row['oldest_since'] else '–',
        'peak': f'sent in the last 15 minutes: at most {rate(max(values, default=0))} messages/s',
    }


async def show_queues(page):
    with box('div', 'tiles'):
        ready, sent, received = (
            tile('Waiting'),
            tile('Sent', 'messages/s'),
            tile('Received', 'messages/s'),
        )
        letters, people, names = tile('Dead letters'), tile('Clients'), tile('Queues')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'Queues')
            search = finder('Find a queue', lambda: refresh())
        nothing = empty(
            'No queues yet', 'Run something, ./fanout_producer.py say, and look here again.'
        )
        rows = table('queues', QUEUE_COLUMNS, lambda: refresh(), 'ready')

    def read(db):
        all = [
            {**row, 'oldest': page.now - row['oldest_since'] if row['oldest_since'] else 0}
            for row in queues.known(db)
        ]
        matching = [row for row in all if (search.value or '').lower() in row['name'].lower()]
        there = [client['state'] != 'gone' for client in clients.known(db)]
        today = sum(row['count'] for row in dead.by_queue(db, page.now - DAY))
        return (
            all,
            len(matching),
            [
                queue_row(row, queues.samples(db, row['name']).get(row['name'], []), page.now)
                for row in view_of(rows, matching)
            ],
            there,
            today,
            dead.letters(db, requeued=False, limit=0)[1],
        )

    async def refresh():
        found, _ = await read_history(page, read)
        if not found:
            return
        all, matching, shown, there, today, waiting = found
        ready(
            count(sum(row['ready'] for row in all)),
            f'ready, {count(sum(row["unacked"] for row in all))} unacked',
        )
        sent(rate(sum(row['publish_rate'] for row in all)))
        received(rate(sum(row['deliver_rate'] for row in all)))
        letters(count(waiting), f'waiting, {count(today)} in 24 h')
        people(count(sum(there)), f'connected, {count(len(there) - sum(there))} gone')
        names(
            count(len(all)),
            f'{count(sum(bool(row["alone_since"]) for row in all))} without a consumer',
        )
        nothing.set_visibility(not all)
        rows.set_visibility(bool(all))
        fill(rows, shown, matching)

    page.refreshers.append(refresh)
    add_history(page, None)


async def show_queue(page, name):
    with box('div', 'head'):
        heading = say('h1', printable(name))
        kind = say('span', '', 'muted')
    with box('div', 'tiles'):
        ready, unacked, consumers = (
            tile('Ready', 'messages'),
            tile('Unacked', 'messages'),
            tile('Consumers'),
        )
        oldest, sent, received = (
            tile('Oldest message'),
            tile('Sent', 'messages/s'),
            tile('Received', 'messages/s'),
        )
    heading.classes('wide')
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'The last 15 minutes, messages/s')
        live = chart(
            f'messages per second of {printable(name)}',
            'line',
            {'sent': 'var(--sent)', 'received': 'var(--received)', 'acknowledged': 'var(--warn)'},
        )
    add_history(page, name)

    def read(db):
        row = next((row for row in queues.known(db, gone=True) if row['name'] == name), None)
        return row, queues.samples(db, name).get(name, []), dead.by_queue(db)

    async def refresh():
        found, _ = await read_history(page, read)
        if not found:
            return
        row, recent, letters = found
        if row is None:
            kind.set_text('no such queue in this history')
            return
        died = sum(letter['count'] for letter in letters if letter['queue'] == name)
        kind.set_text(
            f'{row["type"] or ""} queue, {row["state"] or "new"}, {count(died)} dead letters'
        )
        ready(count(row['ready']))
        unacked(count(row['unacked']))
        consumers(
            count(row['consumers']),
            f'none for {duration(page.now - row["alone_since"])}' if row['alone_since'] else '',
        )
        oldest(
            duration(page.now - row['oldest_since']) if row['oldest_since'] else 'none',
            'is waiting' if row['oldest_since'] else 'the queue is empty',
        )
        sent(rate(row['publish_rate']))
        received(rate(row['deliver_rate']))
        for number, line in enumerate(live.options['series'], 3):
            line['data'] = [
                [round(sample[0] * 1000), round(sample[number], 2)] for sample in smooth(recent)
            ]
        live.options['xAxis'].update(
            min=(page.now - queues.KEEP_SAMPLES_S) * 1000, max=page.now * 1000
        )
        live.update()

    page.refreshers.append(refresh)


def periods(period, now):
    """Return when the last periods of that kind began, as many as SPANS says, oldest first."""
    starts = [history.start_of(period, now)]
    while len(starts) < SPANS[period][1]:
        starts.insert(0, history.start_of(period, starts[0] - 1))
    return starts


HISTORY_COLUMNS = [
    column('label', 'Time', first=True),
    column('published', 'Sent', 'number'),
    column('delivered', 'Received', 'number'),
    column('acked', 'Acked', 'number'),
    column('redelivered', 'Again', 'number'),
    column('expired', 'Expired', 'number'),
    column('rejected', 'Rejected', 'number'),
    column('other', 'Other', 'number'),
]
UNROUTABLE_COLUMNS = [
    column('returned', 'Returned', 'number'),
    column('dropped', 'Dropped', 'number'),
]  # of all queues


def add_history(page, queue):
    """Add the history of a queue, or of all (None), by hour, day, month or year: a chart and a table."""
    seen = {}
    with box('section', 'card'):
        with box('div', 'head'):
            say('h2', 'History of this queue' if queue else 'History of all queues')
            choice = toggle(
                'period',
                {period: label for period, (label, _, _) in SPANS.items()},
                'day',
                lambda: refresh(),
            )
        nothing = empty(
            'Nothing yet',
            'What is sent and received is counted here, by hour, day, month and year.',
        )
        with box('div', 'history' if queue else 'history all') as both:
            bars = chart(
                'sent, received and errors',
                'bar',
                {'sent': 'var(--sent)', 'received': 'var(--received)', 'errors': 'var(--errors)'},
            )
            rows = table(
                'history', [*HISTORY_COLUMNS, *(UNROUTABLE_COLUMNS if queue is None else [])]
            )

    async def refresh():
        period = choice.value
        starts = periods(period, page.now)
        found, _ = await read_history(
            page, lambda db: history.report(db, period, queue, starts[0], total=queue is None)
        )
        if found is None or seen == {period: found}:
            return
        seen.clear()
        seen[period] = found
        by_start = {row['start']: row for row in found}
        label = {start: time.strftime(SPANS[period][2], time.gmtime(start)) for start in starts}
        bars.options['xAxis']['data'] = [*label.values()]
        for line, figures in zip(
            bars.options['series'], (['published'], ['delivered'], history.ERRORS)
        ):
            line['data'] = [
                sum(by_start.get(start, {}).get(name, 0) for name in figures) for start in starts
            ]
        bars.update()
        rows.rows = [
            {
                **{
                    name: count(value)
                    for name, value in row.items()
                    if name not in ('start', 'queue')
                },
                'id': row['start'],
                'label': label[row['start']],
            }
            for row in reversed(found)
        ]
        nothing.set_visibility(not found)
        both.set_visibility(bool(found))

    page.refreshers.append(refresh)
