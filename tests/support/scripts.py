"""Which scripts and modules there are."""

from siamese import ROOT

SCRIPTS = sorted(
    path.name for path in ROOT.glob('*.py') if "if __name__ == '__main__'" in path.read_text()
)
MODULES = sorted(
    str(path.relative_to(ROOT)) for path in [ROOT / 'common.py', *ROOT.glob('siamese/**/*.py')]
)
SCENARIO_SCRIPTS = [
    'producer.py',
    'validate.py',
    'perf_producer.py',
    'perf_consumer.py',
    'fanout_producer.py',
    'fanout_consumer.py',
    'ack_producer.py',
    'ack_consumer.py',
    'rpc_server.py',
    'rpc_client.py',
]
CLIENTS = [*SCENARIO_SCRIPTS, 'monitor.py --history :memory:']
