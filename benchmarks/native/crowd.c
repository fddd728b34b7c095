// A crowd of MQTT devices over TLS that stay connected, send now and then, and come back when they are cut off.
//
//   crowd ADDRESS PORT CLIENTS COUNT
//
// Each time all of them are connected it prints {"all", "seconds", "attempts", "failed"}: how long some were missing,
// logins begun and those that failed. At a line "rate N" they send N messages a second in all, in turn; at "tell" it
// prints {"up", "sent", "acknowledged", "worst_ms"} since the last time. It ends with its standard input.
//
// Who is cut off, or refused, comes again after about a second, then two, four and eight, each with a chance of its own.
#include "client.h"

#include <signal.h>

enum { FIRST_WAIT = 1000, LONGEST_WAIT = 8000, PATIENCE = 60000, TICK = 5, BODY = 200 };

typedef enum { DOWN, GREETING, UP } State;

typedef struct {
    Link link;
    State state;
    bool said;         // CONNECT was sent
    int wait;          // ms until the next try after a failure
    uint64_t due;      // DOWN: when to try; GREETING: when to give up; ms
    uint64_t sent_at;  // of the message that is not acknowledged yet, 0 for none; ms
} Member;

static Member *members;
static int count, up;
static long attempts, failed, sent, acknowledged;
static uint64_t missing_since, worst;

static uint64_t now_ms(void) { return now_ns() / 1000000; }

static void lose(Member *member, uint64_t now) {
    end(&member->link);
    if (member->state == UP) {
        if (up == count) {
            missing_since = now;
            attempts = failed = 0;
        }
        up--;
        member->wait = FIRST_WAIT / 2;
    } else {
        failed++;
    }
    member->state = DOWN;
    member->sent_at = 0;
    member->due = now + (uint64_t)(member->wait * (0.5 + drand48()));
    member->wait = member->wait * 2 > LONGEST_WAIT ? LONGEST_WAIT : member->wait * 2;
}

static void try(Member *member, uint64_t now) {
    attempts++;
    if (!try_start(&member->link, false)) {
        failed++;
        member->due = now + (uint64_t)(member->wait * (0.5 + drand48()));
        return;
    }
    member->state = GREETING;
    member->said = false;
    member->due = now + PATIENCE;
    watch(member->link.fd, member, EPOLLIN | EPOLLOUT);
}

static void greet(Member *member, uint64_t now) {
    Link *link = &member->link;
    const Client *client = &clients[member - members];
    if (!member->said) {
        int done = SSL_do_handshake(link->ssl);
        if (done != 1) {
            int error = SSL_get_error(link->ssl, done);
            ERR_clear_error();
            if (error == SSL_ERROR_WANT_READ) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = member};
                epoll_ctl(poller, EPOLL_CTL_MOD, link->fd, &event);
            } else if (error != SSL_ERROR_WANT_WRITE) {
                lose(member, now);
            }
            return;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = member};
        epoll_ctl(poller, EPOLL_CTL_MOD, link->fd, &event);
        member->said = true;
        if (!send_connect(link, client)) {
            lose(member, now);
            return;
        }
    }
    if (receive(link) < 0) {
        lose(member, now);
        return;
    }
    if (link->held < 4) return;
    if (link->inbox[0] != 0x20 || link->inbox[3]) {
        lose(member, now);
        return;
    }
    consume(link, 4);
    member->state = UP;
    member->wait = FIRST_WAIT;
    if (++up == count) {
        printf("{\"all\": %d, \"seconds\": %.3f, \"attempts\": %ld, \"failed\": %ld}\n", count,
               (double)(now - missing_since) / 1000, attempts, failed);
        fflush(stdout);
    }
}

static void take(Member *member, uint64_t now) {
    Link *link = &member->link;
    do {
        if (receive(link) < 0) {
            lose(member, now);
            return;
        }
        int at = 0;
        for (; link->held - at >= 4; at += 4) {
            if (link->inbox[at] != 0x40) fail("packet type %d where a PUBACK is awaited", link->inbox[at] >> 4);
            acknowledged++;
            if (now - member->sent_at > worst) worst = now - member->sent_at;
            member->sent_at = 0;
        }
        consume(link, at);
    } while (SSL_has_pending(link->ssl));
}

// False: it is not connected, or waits for an acknowledgement.
static bool publish(Member *member, uint64_t now) {
    if (member->state != UP || member->sent_at) return false;
    const char *topic = clients[member - members].topic;
    unsigned char packet[1024] = {0x32};
    int size = 2 + (int)strlen(topic) + 2 + BODY;
    int at = 1 + mqtt_length(packet + 1, size);
    at += put_text(packet + at, topic);
    put16(packet + at, 1);
    memset(packet + at + 2, 'x', BODY);
    member->sent_at = now;
    sent++;
    if (!send_all(&member->link, packet, at + 2 + BODY)) lose(member, now);
    return true;
}

static double command(double rate) {
    static char line[64];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    if (!strncmp(line, "rate ", 5)) return atof(line + 5);
    printf("{\"up\": %d, \"sent\": %ld, \"acknowledged\": %ld, \"worst_ms\": %lu}\n", up, sent, acknowledged,
           (unsigned long)worst);
    fflush(stdout);
    sent = acknowledged = 0;
    worst = 0;
    return rate;
}

int main(int arguments, char **a) {
    if (arguments != 5) fail("usage: see the head of crowd.c");
    signal(SIGPIPE, SIG_IGN);  // whoever was cut off may be writing
    use_server(a[1], a[2]);
    use_clients(a[3]);
    count = atoi(a[4]);
    if (count > clients_count) fail("too few clients");
    members = calloc((size_t)count, sizeof *members);
    setvbuf(stdin, NULL, _IONBF, 0);
    watch(0, NULL, EPOLLIN);
    missing_since = now_ms();
    for (int i = 0; i < count; i++) members[i].wait = FIRST_WAIT;
    double rate = 0;
    uint64_t rate_since = 0, looked = 0;
    long due_before = 0;
    int turn = 0;
    for (;;) {
        uint64_t now = now_ms();
        if (now >= looked + TICK) {
            looked = now;
            for (int i = 0; i < count; i++) {
                if (members[i].state == DOWN && now >= members[i].due) try(&members[i], now);
                else if (members[i].state == GREETING && now >= members[i].due) lose(&members[i], now);
            }
        }
        long due = rate > 0 ? (long)((double)(now - rate_since) / 1000 * rate) : 0;
        for (; due_before < due; due_before++, turn = (turn + 1) % count) publish(&members[turn], now);
        struct epoll_event events[512];
        int ready = epoll_wait(poller, events, 512, TICK);
        now = now_ms();
        for (int i = 0; i < ready; i++) {
            Member *member = events[i].data.ptr;
            if (!member) {
                rate = command(rate);
                rate_since = now_ms();
                due_before = 0;
            } else if (member->state == GREETING) {
                greet(member, now);
            } else if (member->state == UP) {
                take(member, now);
            }
        }
    }
}
