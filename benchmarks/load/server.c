/* server.c - servers in plain C, on epoll: the floor under every event loop.
 *
 *     server MODE DESCRIPTOR [CERTIFICATE]
 *
 * The descriptor is a listening (or, for UDP, bound) socket that the parent
 * made. Compiled with -DTLS it speaks TLS; the certificate is a file with its
 * key, too. The program serves until its standard input ends. The modes:
 *
 *     echo      what is received is sent back
 *     http      each piece received is taken for a request, and answered
 *     send      8 bytes tell how many bytes to send
 *     receive   8 bytes tell how many bytes follow; one byte answers the last
 *     close     each connection is read to its end and closed
 *     reset     the same, and nothing stays behind of the peer's end either
 *
 * Receiving never blocks, but sending does: the load generator reads whatever
 * it sends itself, so a server waiting for it is no deadlock. */
#include "common.h"
#include "stream.h"

typedef struct connection connection;
struct connection {
    stream stream;
    uint64_t left; /* of the bytes announced */
};

typedef struct {
    const char *name;
    /* With `size` bytes in `buffer`; 0 at the end of file. */
    void (*on_data)(connection *c, size_t size);
    int reset;
} service;

static char buffer[BUFFER];

static void
echo(connection *c, size_t size)
{
    stream_send_all(&c->stream, buffer, size);
}

static void
answer_http(connection *c, size_t size)
{
    static const char response[] = "HTTP/1.1 200 OK\r\nContent-Type: "
                                   "text/plain\r\nContent-Length: 13\r\n\r\n"
                                   "Hello, world!";
    if (size < 4 || memcmp(buffer + size - 4, "\r\n\r\n", 4) != 0) {
        refuse("a request came in pieces");
    }
    stream_send_all(&c->stream, response, sizeof response - 1);
}

static uint64_t
announced(size_t size)
{
    uint64_t value = 0;
    if (size < 8) {
        refuse("a number came in pieces");
    }
    for (int i = 0; i < 8; i++) {
        value |= (uint64_t)(unsigned char)buffer[i] << (8 * i);
    }
    return value;
}

static void
send_bulk(connection *c, size_t size)
{
    for (uint64_t left = announced(size); left > 0; left -= CHUNK) {
        stream_send_all(&c->stream, buffer, CHUNK);
    }
}

static void
receive_bulk(connection *c, size_t size)
{
    if (c->left == 0) {
        c->left = announced(size) + 8;
    }
    c->left -= size;
    if (c->left == 0) {
        stream_send_all(&c->stream, ".", 1);
    }
}

static void
ignore(connection *c, size_t size)
{
    (void)c;
    (void)size;
}

static const service modes[] = {
    {"echo", echo, 0},      {"http", answer_http, 0},
    {"send", send_bulk, 0}, {"receive", receive_bulk, 0},
    {"close", ignore, 0},   {"reset", ignore, 1},
};

static void
accept_one(int epoll, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED) {
            return;
        }
        die("accept4");
    }
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) {
        die("calloc");
    }
    set_nodelay(fd);
    stream_open(&c->stream, fd);
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

/* Whether it did. */
static int
receive_some(connection *c, const service *mode)
{
    ssize_t size =
        stream_recv(&c->stream, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size > 0) {
        mode->on_data(c, (size_t)size);
        return 1;
    }
    if (size == 0 || errno != EAGAIN) {
        if (mode->reset) {
            set_reset_on_close(c->stream.fd);
        }
        stream_close(&c->stream);
        free(c);
    }
    return 0;
}

static void
echo_datagram(int fd)
{
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof peer;
    ssize_t size = recvfrom(fd, buffer, sizeof buffer, MSG_DONTWAIT,
                            (struct sockaddr *)&peer, &peer_size);
    if (size >= 0) {
        (void)sendto(fd, buffer, (size_t)size, 0, (struct sockaddr *)&peer,
                     peer_size);
    }
}

int
main(int argc, char **argv)
{
    struct epoll_event events[256];
    const service *mode = NULL;
    /* Only their addresses are used, to tell them from connections. */
    static connection on_listener, on_input;

    for (size_t i = 0; argc >= 3 && i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            mode = &modes[i];
        }
    }
    if (mode == NULL) {
        refuse("usage: server MODE DESCRIPTOR [CERTIFICATE]; the head of "
               "server.c lists the "
               "modes");
    }
    int listener = atoi(argv[2]);
    int type = 0;
    socklen_t type_size = sizeof type;
    if (getsockopt(listener, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0) {
        die("getsockopt");
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        die("epoll_create1");
    }
    raise_descriptor_limit();
    turns_setup();
    stream_setup(argv[3]);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, &on_listener);
    watch(epoll, EPOLL_CTL_ADD, 0, EPOLLIN, &on_input);

    for (;;) {
        int n = turns_epoll_wait(epoll, events, 256);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (c == &on_input) {
                return 0;
            }
            if (c != &on_listener) {
                while (receive_some(c, mode) && stream_pending(&c->stream)) {
                }
            }
            else if (type == SOCK_DGRAM) {
                echo_datagram(listener);
            }
            else {
                accept_one(epoll, listener);
            }
        }
    }
}
