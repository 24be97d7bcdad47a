"""Documents as compare.py --json writes them, by hand: see docs/explanation/compare.md."""

MEANINGS = {
    'limits met': 'what the broker allows at most; a durable queue is allowed',
    'throughput': 'how many persistent messages a second are confirmed and delivered',
    'latency': 'how long it takes from when a message is due until it is delivered',
    'priority': 'the highest priority is delivered first',
    'RPC': 'questions get the right answers, over a queue of the client alone',
}
LOAD = 'other processes used 5 % of 2 processors between the rounds (at most 8 %)'


def figure(unit, better, *rounds, spread=0.05):
    """What was measured: as many rounds as there are values."""
    median = sorted(rounds)[len(rounds) // 2] if rounds else None
    is_spread_known = len(rounds) >= 5
    return {
        'title': f'{unit}, measured by a consumer',
        'unit': unit,
        'better': better,
        'rounds': list(rounds),
        'median': median,
        'low': median * (1 - spread) if is_spread_known else None,
        'high': median * (1 + spread) if is_spread_known else None,
    }


def broker(name, *, address='127.0.0.1:5672/%2F', rate=10_000.0, label='', **verdicts):
    """A broker all of whose checks pass, but for these `verdicts`."""
    checks = {check: {'verdict': 'pass', 'text': 'done', 'figures': {}} for check in MEANINGS}
    checks['throughput']['figures'] = {'rate': figure('msg/s', 'more', *[rate] * 5)}
    checks['latency']['figures'] = {
        'p50': figure('ms', 'less', *[0.58] * 5),
        'p99': figure('ms', 'less', *[1.97] * 5, spread=0.4),
    }
    checks['RPC']['figures'] = {'median': figure('ms', 'less', 0.74)}
    for check, verdict in verdicts.items():
        checks[check] = {'verdict': verdict, 'text': f'why it is {verdict}', 'figures': {}}
    return {
        'broker': name,
        'address': address,
        'label': label or name,
        'checks': checks,
        'facts': {'message of 20 MiB': 'not tried (--budget)'},
        'left': [],
        'messages': 85_667,
    }


def compared(ahead, behind, times, check='throughput', name='rate'):
    """A comparison of two brokers by place; `times` is None for no difference, '' if not known."""
    verdict = 'difference'
    text = f'broker {ahead} is {times} times as good as broker {behind}'
    if times is None:
        verdict = 'no difference'
        text = 'no difference beyond noise (0.93 to 1.08 times)'
    if times == '':
        verdict = 'not known'
        text = 'not known: 5 rounds are too few, 9 are needed'
    is_found = verdict == 'difference'
    return {
        'check': check,
        'figure': name,
        'first': min(ahead, behind),
        'second': max(ahead, behind),
        'rounds': 12,
        'ratio': None,
        'low': None,
        'high': None,
        'verdict': verdict,
        'ahead': ahead if is_found else None,
        'times': times if is_found else None,
        'times_low': None,
        'times_high': None,
        'text': text,
    }


def document(*brokers, comparisons=(), differences=None, status=0, not_tried=(), spoils=False):
    """What a run over these brokers has found out."""
    verdicts = [f'{each["broker"]} at {each["address"]}: all of it' for each in brokers]
    return {
        'verdict': '\n'.join(verdicts),
        'verdicts': verdicts,
        'exit_status': status,
        'date': '2026-11-27T07:50:12Z',
        'took_s': 301.4,
        'command': './compare.py amqp://127.0.0.1:27115/%2F --html runs/brokers.html',
        'settings': {
            'rounds': 12,
            'budget': 200_000,
            'checks': [check for check in MEANINGS if check not in not_tried],
            'not_tried': list(not_tried),
            'throughput': 'one producer and one consumer, as fast as they can',
            'latency': 'one producer and one consumer, 500 msg/s',
        },
        'versions': {'python': '3.12.3', 'pika': '1.3.2'},
        'machine': {'system': 'Linux 6.1.0 x86_64', 'processors': 2},
        'load': {'before': 0.05, 'during': 0.05, 'most': 0.08, 'spoils': spoils, 'text': LOAD},
        'meanings': MEANINGS,
        'brokers': list(brokers),
        'differences': differences or {},
        'comparisons': list(comparisons),
    }


OLD = broker('RabbitMQ 3.10.8', address='127.0.0.1:27115/%2F')
NEW = broker('RabbitMQ 4.0.5', address='127.0.0.1:63882/%2F', rate=12_000.0)
QPID = broker('qpid 10.1.0', rate=5000.0, priority='not possible')
EXAMPLE = document(
    OLD,
    NEW,
    comparisons=[
        compared(1, 0, 1.2),
        compared(0, 1, None, 'latency', 'p50'),
        compared(0, 1, None, 'latency', 'p99'),
    ],
    differences={
        'frame': ['131,072 bytes', '65,536 bytes'],
        'message of 20 MiB': ['allowed', 'refused (PRECONDITION_FAILED - message size 20971520)'],
        'stream': ['allowed', 'refused'],
    },
)
