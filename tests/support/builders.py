"""What a history is made of in tests: queues, dead letters and clients."""

from siamese.monitoring import clients, database

NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC
ZERO = dict.fromkeys(database.COUNTED, 0)


def queue(name='q', ready=0, consumers=0, **counted):
    return {
        'name': name,
        'type': 'classic',
        'state': 'running',
        'ready': ready,
        'unacked': 0,
        'consumers': consumers,
        **dict.fromkeys(database.RATES, 0),
        **ZERO,
        **counted,
    }


def letter(number=1, **facts):
    return {
        'at': NOON,
        'queue': 'q',
        'reason': 'expired',
        'exchange': '',
        'routing_key': 'q',
        'sender': 'alice',
        'message_id': f'alice-{number}',
        'body': b'\xff\x00',
        'encoded': b'\0\0',
        'properties': {'headers': {}},
        'redelivered': False,
        'tag': number,
        **facts,
    }


def seen(db, at, *connections, name='alice'):
    clients.update(
        db,
        at,
        {
            (name, 'guest'): {
                'does': 'publishes',
                'blocked': False,
                'connections': dict.fromkeys(connections, (10, 1)),
            }
        }
        if connections
        else {},
    )
