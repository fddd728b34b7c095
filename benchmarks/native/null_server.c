// A server that acknowledges and does nothing else: what the load generator reaches against it is the generator's own.
// null_server ADDRESS CERTIFICATE_CHAIN PRIVATE_KEY        prints its port; ends when its standard input ends
#include "wire.h"

static void set_up(Link *link, SSL_CTX *context) {
    int one = 1;
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    link->ssl = SSL_new(context);
    SSL_set_fd(link->ssl, link->fd);
    SSL_set_accept_state(link->ssl);
}

// Answers to all whole packets of the inbox, in one write. False: the connection is over.
static bool answer(Link *link) {
    unsigned char out[4096];
    int size = 0, at = 0, body = 0;
    for (;;) {
        int packet = mqtt_packet(link->inbox + at, link->held - at, &body);
        if (!packet || packet > link->held - at) break;
        const unsigned char *bytes = link->inbox + at;
        switch (bytes[0] >> 4) {
            case 1:
                memcpy(out + size, "\x20\x02\0\0", 4);
                size += 4;
                break;
            case 3:
                if (bytes[0] & 0x06) {
                    const unsigned char *id = bytes + body + 2 + (bytes[body] << 8 | bytes[body + 1]);
                    memcpy(out + size, (unsigned char[]){0x40, 2, id[0], id[1]}, 4);
                    size += 4;
                }
                break;
            case 14:
                return false;
        }
        at += packet;
        if (size > (int)sizeof out - 8) {
            if (!send_all(link, out, size)) return false;
            size = 0;
        }
    }
    consume(link, at);
    return size == 0 || send_all(link, out, size);
}

static bool serve(Link *link) {
    do {
        int got = receive(link);
        if (got <= 0) return got == 0;
        if (!answer(link)) return false;
    } while (SSL_has_pending(link->ssl));
    return true;
}

int main(int count, char **arguments) {
    if (count != 4) fail("usage: null_server ADDRESS CERTIFICATE_CHAIN PRIVATE_KEY");
    raise_descriptor_limit();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_num_tickets(context, 0);
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1)
        fail("the certificate or its key cannot be read");
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in where = {.sin_family = AF_INET};
    socklen_t length = sizeof where;
    inet_pton(AF_INET, arguments[1], &where.sin_addr);
    if (bind(listener, (void *)&where, sizeof where) || listen(listener, 1024)) fail("cannot listen: %s", strerror(errno));
    getsockname(listener, (void *)&where, &length);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);

    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    static char standard_input;
    event.data.ptr = &standard_input;
    epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &standard_input) return 0;
            Link *link = events[i].data.ptr;
            if (!link) {
                int fd = accept(listener, NULL, NULL);
                if (fd < 0) continue;
                link = calloc(1, sizeof *link);
                link->fd = fd;
                set_up(link, context);
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = link};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            } else if (!serve(link)) {
                SSL_free(link->ssl);
                close(link->fd);
                free(link);
            }
        }
    }
}
