#!/bin/sh
# Something to look at: scenarios 1 to 4 at work, queues that nobody reads, monitor.py, and dashboard.py until Ctrl-C.
# Takes the broker at AMQP_URL and MANAGEMENT_URL: ./broker.py --management demos/dashboard.sh
set -u
cd "$(dirname "$0")/.."
# What it begins ends with it, however it ends.
[ -n "${SUPERVISED_FOLDER-}" ] || exec python3 -m siamese.testbed.supervisor demos/dashboard.sh "$@"
folder=$SUPERVISED_FOLDER
trap 'exit 0' INT TERM

# begin NAME COMMAND...: run a script in the background, its log in a file.
begin() {
    name=$1
    shift
    "$@" --name "$name" --quiet >"$folder/$name.log" 2>&1 &
}

for queue in anna bert; do ./fanout_consumer.py $queue --duration 0 --quiet >/dev/null 2>&1; done
begin monitor ./monitor.py --history "$folder/siamese.db"
begin alice ./producer.py --difficulty 3 --rate 5
begin bob ./producer.py --difficulty 3 --rate 3
begin carol ./validate.py --difficulty 3
begin erin ./perf_producer.py --persistent --rate 200
begin grace ./perf_consumer.py
begin frank ./fanout_producer.py
begin anna ./fanout_consumer.py anna
begin ivan ./ack_producer.py --rate 5
begin judy ./ack_consumer.py --lose 1 --reject 39 --prefetch 1000
./dashboard.py --history "$folder/siamese.db" "$@" &
wait $! # and not in the foreground: sh would hear of a signal only at its end
