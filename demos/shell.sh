#!/bin/sh
# A shell beside a throwaway broker: what it is in, what to try, how to leave.
# Takes the broker at AMQP_URL and MANAGEMENT_URL: ./broker.py --management demos/shell.sh
set -u
cd "$(dirname "$0")/.."
cat >&2 <<'END'

This shell has a RabbitMQ of its own, on loopback: its URL is in AMQP_URL, that of its management
API in MANAGEMENT_URL. Leave with exit or Ctrl-D: then the broker ends, and all its messages go.
Try, here or in other terminals that have the same AMQP_URL and MANAGEMENT_URL:

  ./producer.py --count 3 --ledger runs/run.jsonl
  ./validate.py --count 3 --ledger runs/run.jsonl
  ./audit.py runs/run.jsonl
  ./monitor.py --once
  ./roles.py --create && ./roles.py --check

END
trap : INT # Ctrl-C is for what runs in the shell
# Its exit status is that of the last command typed: no failure of make shell.
"${SHELL:-sh}" || true
