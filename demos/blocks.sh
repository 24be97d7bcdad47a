#!/bin/sh
# Scenario 1 in one terminal: two producers, two validators, then the verdict. In real life each has its own terminal,
# or its own machine. Takes the broker at AMQP_URL: ./broker.py demos/blocks.sh
set -u
cd "$(dirname "$0")/.."
ledger=$(mktemp) queue=siamese.demo.$$
trap 'rm -f "$ledger"' EXIT
trap 'exit 130' INT TERM

# show NAME COMMAND...: run a command, each line of it behind its name.
show() {
    name=$1
    shift
    { "$@" --name "$name" --queue "$queue" --ledger "$ledger" 2>&1; echo "exit status $?"; } |
        while IFS= read -r line; do printf '%-5s | %s\n' "$name" "$line"; done
}

show carol ./validate.py --idle 5 &
show dave ./validate.py --idle 5 &
show alice ./producer.py --count 20 &
show bob ./producer.py --count 20 &
wait
python3 - "$queue" <<'END'
import os, sys, pika, common
pika.BlockingConnection(common.endpoints(os.environ['AMQP_URL'], 'demos/blocks.sh')).channel().queue_delete(sys.argv[1])
END
echo
./audit.py "$ledger"
