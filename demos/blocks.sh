#!/bin/sh
# Scenario 1 in one terminal: two producers, two validators, then the verdict. In real life each has its own terminal,
# or its own machine. Takes the broker at AMQP_URL: ./broker.py demos/blocks.sh
set -u
cd "$(dirname "$0")/.."
# What it begins ends with it, however it ends.
[ -n "${SUPERVISED_FOLDER-}" ] || exec python3 -m siamese.testbed.supervisor demos/blocks.sh "$@"
ledger=$SUPERVISED_FOLDER/ledger queue=siamese.demo.$$ stopped=''
trap 'stopped=1' INT TERM

# show NAME COMMAND...: run a command, each line of it behind its name. The command
# hears a signal too, so its shells only wait for its end.
show() {
    name=$1
    shift
    trap : INT TERM
    {
        trap : INT TERM
        "$@" --name "$name" --queue "$queue" --ledger "$ledger" --give-up-after 30 2>&1
        echo "exit status $?"
    } | {
        trap '' INT TERM
        while IFS= read -r line; do printf '%-5s | %s\n' "$name" "$line"; done
    }
}

show carol ./validate.py --idle 5 &
show dave ./validate.py --idle 5 &
show alice ./producer.py --count 20 &
show bob ./producer.py --count 20 &
wait
wait # a signal ends the first one
python3 - "$queue" <<'END'
import os
import sys

import common
from siamese import flags, script
from siamese.messaging import blocking


def main():
    flags.set_up_log('demos/blocks.sh', verbose=False)
    urls = os.environ.get('AMQP_URL') or common.DEFAULT_URL
    endpoint = blocking.first_reachable(common.endpoints(urls, 'demos/blocks.sh'))
    with blocking.connected(endpoint) as connection:
        connection.channel().queue_delete(sys.argv[1])


script.run(main)
END
[ -z "$stopped" ] || exit 130
echo
./audit.py "$ledger"
