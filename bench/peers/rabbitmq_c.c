/* rabbitmq-c: a window of confirms, acknowledgements in batches. The words it takes: see bench/perf_peers.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "work.h"

/* Read a confirm, if `block` or if one is there. */
static void read_confirm(int block) {
    struct timeval now = {0, 0};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(broker, &frame, block ? NULL : &now);
    if (status == AMQP_STATUS_TIMEOUT) return;
    must(status == AMQP_STATUS_OK && frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "waiting for a confirm");
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    count_confirms(ack->delivery_tag, ack->multiple);
    amqp_maybe_release_buffers(broker);
}

static void produce(amqp_bytes_t queue, long count, long window, long size, long rate) {
    char id[32];
    amqp_bytes_t body = {size, memset(malloc(size), 'x', size)};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG};
    long sent = 0;
    properties.delivery_mode = is_persistent ? 2 : 1;
    must(amqp_confirm_select(broker, 1) != NULL, "confirm.select");
    for (long long begin = clock_ns(); sent < count; sent++) {
        if (rate) {
            long long left = begin + sent * 1000000000LL / rate - clock_ns();
            if (left > 0) nanosleep(&(struct timespec){left / 1000000000, left % 1000000000}, NULL);
            read_confirm(0);
        }
        while (sent - confirmed >= window) read_confirm(1);
        properties.message_id = amqp_cstring_bytes((sprintf(id, "%lld", clock_ns()), id));
        must(!amqp_basic_publish(broker, 1, amqp_empty_bytes, queue, 0, 0, &properties, body), "publishing");
    }
    while (confirmed < count) read_confirm(1);
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
    if (argc == 2) return puts(amqp_version()) < 0;
    struct work work = begin(argc, argv);
    if (work.is_producer) produce(work.queue, work.count, work.window, work.size, work.rate);
    else consume(work.queue, work.count, work.window, work.batch, work.rate);
    amqp_connection_close(broker, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(broker);
    return 0;
}
