"""Brokers and faults to test against."""

import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # held back while a broker is cleaned up
