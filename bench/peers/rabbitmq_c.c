/* rabbitmq-c: a window of confirms, acknowledgements in batches. The words it takes: see bench/perf_peers.py. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static amqp_connection_state_t broker;
static int is_persistent, is_quorum; /* KIND in the environment: see bench/perf_peers.py */

static void must(int good, const char *what) {
    if (!good) { fprintf(stderr, "rabbitmq_c: %s failed\n", what); exit(1); }
}

static long long clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Read a confirm, if `block` or if one is there; return the latest confirmed tag (a single queue confirms in order). */
static long read_confirm(int block, long confirmed) {
    struct timeval now = {0, 0};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(broker, &frame, block ? NULL : &now);
    if (status == AMQP_STATUS_TIMEOUT) return confirmed;
    must(status == AMQP_STATUS_OK && frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "waiting for a confirm");
    confirmed = ((amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
    amqp_maybe_release_buffers(broker);
    return confirmed;
}

static void produce(amqp_bytes_t queue, long count, long window, long size, long rate) {
    char id[32];
    amqp_bytes_t body = {size, memset(malloc(size), 'x', size)};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG};
    long sent = 0, confirmed = 0;
    properties.delivery_mode = is_persistent ? 2 : 1;
    must(amqp_confirm_select(broker, 1) != NULL, "confirm.select");
    for (long long begin = clock_ns(); sent < count; sent++) {
        if (rate) {
            long long left = begin + sent * 1000000000LL / rate - clock_ns();
            if (left > 0) nanosleep(&(struct timespec){left / 1000000000, left % 1000000000}, NULL);
            confirmed = read_confirm(0, confirmed);
        }
        while (sent - confirmed >= window) confirmed = read_confirm(1, confirmed);
        properties.message_id = amqp_cstring_bytes((sprintf(id, "%lld", clock_ns()), id));
        must(!amqp_basic_publish(broker, 1, amqp_empty_bytes, queue, 0, 0, &properties, body), "publishing");
    }
    while (confirmed < count) confirmed = read_confirm(1, confirmed);
    printf("{\"sent\": %ld}\n", confirmed);
}

static void consume(amqp_bytes_t queue, long count, long prefetch, long batch, long rate) {
    amqp_envelope_t envelope;
    must(amqp_basic_qos(broker, 1, 0, prefetch, 0) != NULL, "basic.qos");
    must(amqp_basic_consume(broker, 1, queue, amqp_empty_bytes, 0, 0, 0, amqp_empty_table) != NULL, "basic.consume");
    printf("{\"latency_us\": [");
    for (long received = 1; received <= count; received++) {
        amqp_maybe_release_buffers(broker);
        must(amqp_consume_message(broker, &envelope, NULL, 0).reply_type == AMQP_RESPONSE_NORMAL, "consuming");
        if (rate) {
            char id[32] = "";
            strncpy(id, envelope.message.properties.message_id.bytes, envelope.message.properties.message_id.len);
            printf("%s%lld", received > 1 ? ", " : "", (clock_ns() - atoll(id)) / 1000);
        }
        if (received % batch == 0 || received == count)
            must(!amqp_basic_ack(broker, 1, envelope.delivery_tag, 1), "acknowledging");
        amqp_destroy_envelope(&envelope);
    }
    printf("], \"received\": %ld}\n", count);
}

int main(int argc, char **argv) {
    struct amqp_connection_info url;
    if (argc == 2) return puts(amqp_version()) < 0;
    must(argc == 9 && !amqp_parse_url(argv[2], &url), "reading the command line");
    amqp_bytes_t queue = amqp_cstring_bytes(argv[3]);
    long count = atol(argv[4]), window = atol(argv[5]), batch = atol(argv[6]), size = atol(argv[7]), rate = atol(argv[8]);
    broker = amqp_new_connection();
    must(!amqp_socket_open(amqp_tcp_socket_new(broker), url.host, url.port), "connecting");
    must(amqp_login(broker, url.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, url.user, url.password)
             .reply_type == AMQP_RESPONSE_NORMAL, "logging in");
    must(amqp_channel_open(broker, 1) != NULL, "channel.open");
    const char *kind = getenv("KIND");
    is_quorum = kind && strcmp(kind, "quorum") == 0;
    is_persistent = is_quorum || (kind && strcmp(kind, "persistent") == 0);
    amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"), .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    type.value.value.bytes = amqp_cstring_bytes(is_quorum ? "quorum" : "classic");
    amqp_table_t arguments = {1, &type};
    must(amqp_queue_declare(broker, 1, queue, 0, 1, 0, 0, arguments) != NULL, "queue.declare");
    if (strcmp(argv[1], "produce") == 0) produce(queue, count, window, size, rate);
    else consume(queue, count, window, batch, rate);
    amqp_connection_close(broker, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(broker);
    return 0;
}
