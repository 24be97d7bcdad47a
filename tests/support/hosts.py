"""Hosts whose clocks disagree: scripts that take themselves to be on one of them.

Such a script sees the name and the clock of its host, and so its ledger has a clock of its
own. What it tells apart is what audit.py knows machines by; a namespace is not needed.
"""

from support.clock import Clock


class Host:
    """Give `env` to a script that runs here; set() sets the clock, to s ahead of the truth."""

    def __init__(self, folder, name, ahead):
        self.folder = folder / name
        self.folder.mkdir()
        self.name = name
        self.clock = Clock(self.folder)
        self.set(ahead)
        self.env = {**self.clock.env, 'HOST_NAME': name}

    def set(self, ahead):
        self.clock.set(ahead)

    def ledger(self, name):
        return self.folder / f'{name}.jsonl'
