/* The work of both peers on rabbitmq-c, its connection and its queue. The words it takes: see bench/perf_peers.py. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct work {
    int is_producer;
    amqp_bytes_t queue;
    long count, window, batch, size, rate;
};

static amqp_connection_state_t broker;
static int is_persistent, is_quorum; /* KIND in the environment: see bench/perf_peers.py */

static unsigned char *is_confirmed; /* by delivery tag, from 1 */
static long lowest_tag = 1, confirmed;

static void must(int good, const char *what) {
    if (!good) { fprintf(stderr, "%s failed\n", what); exit(1); }
}

static long long clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void login(const struct amqp_connection_info *url) {
    broker = amqp_new_connection();
    must(!amqp_socket_open(amqp_tcp_socket_new(broker), url->host, url->port), "connecting");
    must(amqp_login(broker, url->vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, url->user, url->password)
             .reply_type == AMQP_RESPONSE_NORMAL, "logging in");
    must(amqp_channel_open(broker, 1) != NULL, "channel.open");
}

static void declare(amqp_bytes_t queue) {
    amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"), .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    type.value.value.bytes = amqp_cstring_bytes(is_quorum ? "quorum" : "classic");
    amqp_table_t arguments = {1, &type};
    must(amqp_queue_declare(broker, 1, queue, 0, 1, 0, 0, arguments) != NULL, "queue.declare");
}

/* Confirms come in any order: a classic queue confirms what it delivered at once before what it writes to disk. */
static void count_confirms(long tag, int multiple) {
    for (long each = multiple ? lowest_tag : tag; each <= tag; each++) {
        confirmed += !is_confirmed[each];
        is_confirmed[each] = 1;
    }
    if (multiple && lowest_tag <= tag) lowest_tag = tag + 1;
}

/* Read what is to be done, connect, and declare the queue. */
static struct work begin(int argc, char **argv) {
    struct amqp_connection_info url;
    must(argc == 9 && !amqp_parse_url(argv[2], &url), "reading the command line");
    struct work work = {
        .is_producer = strcmp(argv[1], "produce") == 0, .queue = amqp_cstring_bytes(argv[3]),
        .count = atol(argv[4]), .window = atol(argv[5]), .batch = atol(argv[6]),
        .size = atol(argv[7]), .rate = atol(argv[8]),
    };
    const char *kind = getenv("KIND");
    is_quorum = kind && strcmp(kind, "quorum") == 0;
    is_persistent = is_quorum || (kind && strcmp(kind, "persistent") == 0);
    is_confirmed = calloc(work.count + 1, 1);
    login(&url);
    declare(work.queue);
    return work;
}
