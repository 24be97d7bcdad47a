"""What stands in a ledger, message by message."""

from siamese import ledger


def lines_in(path, event):
    """Return the lines of a ledger that tell of such an event: one for each message."""
    lines = (line for line in ledger.read([str(path)]) if line['event'] == event)
    return [one for line in lines for one in ledger.singly(line)]


def ids_in(path, event):
    return {line['id'] for line in lines_in(path, event)}
