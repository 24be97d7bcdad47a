"""Python imports this first where the folder is in PYTHONPATH: its clock is off.

By how many seconds stands in the file CLOCK_FILE. time.monotonic() stays as it is, as when
somebody sets the clock of a machine. HOST_NAME, if it is there, is the name of that machine.
"""

import os
import socket
import time

real_time, real_time_ns = time.time, time.time_ns


def ahead():
    with open(os.environ['CLOCK_FILE']) as file:
        return float(file.read())


time.time = lambda: real_time() + ahead()
time.time_ns = lambda: real_time_ns() + int(ahead() * 1e9)
if 'HOST_NAME' in os.environ:
    socket.gethostname = lambda: os.environ['HOST_NAME']
