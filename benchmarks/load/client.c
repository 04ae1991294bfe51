/* client.c - the load generator: one thread, one epoll, loopback only.
 *
 *     client exchange ADDRESS CONNECTIONS SIZE DEPTH
 *         Each connection sends DEPTH messages of SIZE bytes at once and waits
 *         until as many bytes came back, the same ones. One message is one
 *         operation.
 *     client http ADDRESS CONNECTIONS
 *         One keep-alive GET at a time on each connection.
 *     client receive ADDRESS
 *         Asks for N times 64 KiB (the number of bytes in 8 bytes, little
 *         endian) and reads them.
 *     client send ADDRESS
 *         Announces N times 64 KiB in the same way, sends them, and waits for
 *         one byte.
 *     client storm ADDRESS CONNECTIONS
 *         Connects, ends its side, waits for the other end to close.
 *
 * ADDRESS is tcp:PORT, udp:PORT or unix:PATH; compiled with -DTLS, tls:PORT,
 * where ends and closes are those of TLS and each connection is one of TLS 1.3
 * that resumes nothing. Once its connections stand the
 * program prints {"ready": true}. Then each line N on its standard input makes
 * it perform N operations, and print how many it did, how long they took, how
 * much CPU time of its own that took, and percentiles of the latency, in JSON.
 * It ends with its input, or when an answer takes 20 seconds.
 *
 * The latency is that of an exchange (all DEPTH messages there and back), of a
 * request, or of a visit from connect() to the end of the connection. */
#include "common.h"
#include "latency.h"
#include "stream.h"

#include <poll.h>
#include <signal.h>
#include <sys/un.h>

#define LIMIT_SECONDS 20
#define CONNECTIONS_MAX 20000
/* A connection is in the backlog until the server accepts it, and a backlog is
 * not to overflow: each so many connections one is used. One of TLS stands only
 * once it is accepted, and allocates more when it is first used. */
#ifdef TLS
#define CONNECTIONS_AHEAD 1
#else
#define CONNECTIONS_AHEAD 50
#endif

typedef struct {
    stream stream;
    uint64_t started; /* when, in ns */
    size_t sent;      /* of the request */
    size_t received;  /* of the reply */
    int blocked;      /* whether EPOLLOUT is waited for */
    int ended;        /* whether our side of a visit has */
} connection;

/* What each connection sends at once, and what is to come back: so many bytes,
 * of which the first `known` are known. */
static struct {
    const char *request;
    size_t request_size;
    const char *reply;
    size_t known;
    size_t reply_size;
    long operations;
} talk;

static int epoll;
static connection *connections;
static int connection_count;
static long to_start; /* operations of this run */
static long done;
static char buffer[BUFFER];
static latencies latency;

static struct {
    int family;
    int type;
    struct sockaddr_storage name;
    socklen_t size;
} server;

static long
number(const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || (*end != '\0' && *end != '\n') || value < least ||
        value > most) {
        refuse("a number is missing or out of range");
    }
    return value;
}

static void
parse_address(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *name = (struct sockaddr_un *)&server.name;
        if (strlen(text + 5) >= sizeof name->sun_path) {
            refuse("the path is too long");
        }
        strcpy(name->sun_path, text + 5);
        server.family = name->sun_family = AF_UNIX;
        server.type = SOCK_STREAM;
        server.size = sizeof *name;
        return;
    }
    if (strncmp(text, STREAM_SCHEME, 4) != 0 &&
        strncmp(text, "udp:", 4) != 0) {
        refuse("an address is " STREAM_SCHEME "PORT, udp:PORT or unix:PATH");
    }
    struct sockaddr_in *name = (struct sockaddr_in *)&server.name;
    server.family = name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name->sin_port = htons((uint16_t)number(text + 4, 1, 65535));
    server.type = text[0] == 't' ? SOCK_STREAM : SOCK_DGRAM;
    server.size = sizeof *name;
}

static void
connect_to_server(int fd)
{
    if (connect(fd, (struct sockaddr *)&server.name, server.size) < 0) {
        die("connect");
    }
}

/* In blocking mode, as far as the stream has one. */
static void
open_connection(stream *s)
{
    int fd = socket(server.family, server.type, 0);
    if (fd < 0) {
        die("socket");
    }
    if (server.family == AF_INET && server.type == SOCK_STREAM) {
        set_nodelay(fd);
        set_reset_on_close(fd);
    }
    turns_fix_buffers(fd);
    connect_to_server(fd);
    stream_open(s, fd);
    (void)stream_shake(s, 0);
}

/* -------------------------------------------------------- exchange and http */

static void
send_request(connection *c)
{
    ssize_t sent = stream_send(&c->stream, talk.request + c->sent,
                               talk.request_size - c->sent, MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN) {
            die("send");
        }
        sent = 0;
    }
    c->sent += (size_t)sent;
    int blocked = c->sent < talk.request_size || stream_unsent(&c->stream);
    if (blocked != c->blocked) {
        c->blocked = blocked;
        watch(epoll, EPOLL_CTL_MOD, c->stream.fd,
              blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, c);
    }
}

static void
start_exchange(connection *c, uint64_t now)
{
    if (to_start > 0) {
        to_start -= talk.operations;
        c->started = now;
        c->sent = c->received = 0;
        send_request(c);
    }
}

/* Whether some of it came. */
static int
receive_reply(connection *c)
{
    ssize_t size =
        stream_recv(&c->stream, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0) {
        if (errno == EAGAIN) {
            return 0;
        }
        die("recv");
    }
    if (size == 0) {
        refuse("the server closed a connection");
    }
    if ((size_t)size > talk.reply_size - c->received) {
        refuse("the server sent more than it was to");
    }
    if (c->received < talk.known) {
        size_t known = talk.known - c->received;
        if (known > (size_t)size) {
            known = (size_t)size;
        }
        if (memcmp(buffer, talk.reply + c->received, known) != 0) {
            refuse("the server sent something else than it was to");
        }
    }
    c->received += (size_t)size;
    if (c->received == talk.reply_size) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        latency_add(&latency, now - c->started);
        done += talk.operations;
        start_exchange(c, now);
    }
    return 1;
}

/* Exchanges on the first `among` of connections until `count` operations are done. */
static void
exchange(connection *first, int among, long count)
{
    struct epoll_event events[256];

    to_start = count;
    done = 0;
    for (int i = 0; i < among; i++) {
        start_exchange(&first[i], clock_ns(CLOCK_MONOTONIC));
    }
    while (done < count) {
        int n = turns_epoll_wait(epoll, events, 256);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                send_request(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                while (receive_reply(c) && stream_pending(&c->stream)) {
                }
            }
        }
    }
}

static void
open_connections(void)
{
    for (int i = 0; i < connection_count; i++) {
        connection *c = &connections[i];
        open_connection(&c->stream);
        watch(epoll, EPOLL_CTL_ADD, c->stream.fd, EPOLLIN, c);
        if (i % CONNECTIONS_AHEAD == 0 || i == connection_count - 1) {
            exchange(c, 1, talk.operations);
        }
    }
}

static void
run_exchange(long count)
{
    if (count % talk.operations != 0) {
        refuse("the operations are no multiple of the depth");
    }
    exchange(connections, connection_count, count);
}

static void
prepare_exchange(long size, long depth)
{
    size_t total = (size_t)size * (size_t)depth;
    char *messages = malloc(total);
    if (messages == NULL) {
        die("malloc");
    }
    /* Each message is a line, and known by its place in it. */
    for (size_t i = 0; i < total; i++) {
        size_t place = i % (size_t)size;
        messages[i] =
            place == (size_t)size - 1 ? '\n' : (char)('a' + place % 23);
    }
    talk.request = talk.reply = messages;
    talk.request_size = talk.reply_size = talk.known = total;
    talk.operations = depth;
    open_connections();
}

static void
prepare_http(void)
{
    talk.request = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: "
                   "load\r\nAccept: */*\r\n\r\n";
    talk.request_size = strlen(talk.request);
    talk.reply = "HTTP/1.1 200 ";
    talk.known = strlen(talk.reply);
    talk.operations = 1;

    /* Learn from one response how long each of them is. */
    stream one;
    size_t size = 0;
    open_connection(&one);
    stream_send_all(&one, talk.request, talk.request_size);
    while (talk.reply_size == 0 || size < talk.reply_size) {
        ssize_t more =
            stream_recv(&one, buffer + size, sizeof buffer - 1 - size, 0);
        if (more <= 0) {
            refuse("there is no whole HTTP response");
        }
        size += (size_t)more;
        buffer[size] = '\0';
        char *body = strstr(buffer, "\r\n\r\n");
        char *length = strcasestr(buffer, "\r\ncontent-length:");
        if (body != NULL) {
            if (length == NULL || length > body) {
                refuse("the HTTP response does not tell its length");
            }
            talk.reply_size = (size_t)(body + 4 - buffer) +
                              strtoul(strchr(length, ':') + 1, NULL, 10);
        }
    }
    stream_close(&one);
    open_connections();
}

/* --------------------------------------------------------------------- bulk */

static void
announce(stream *s, long count)
{
    uint64_t size = (uint64_t)count * CHUNK;
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(size >> (8 * i));
    }
    stream_send_all(s, (char *)bytes, sizeof bytes);
}

static void
receive_all(stream *s, size_t left)
{
    while (left > 0) {
        size_t room = left < sizeof buffer ? left : sizeof buffer;
        ssize_t size = stream_recv(s, buffer, room, 0);
        if (size <= 0) {
            refuse("the server did not send what it was to");
        }
        left -= (size_t)size;
    }
}

static void
run_receive(long count)
{
    announce(&connections[0].stream, count);
    receive_all(&connections[0].stream, (size_t)count * CHUNK);
}

static void
run_send(long count)
{
    announce(&connections[0].stream, count);
    for (long i = 0; i < count; i++) {
        stream_send_all(&connections[0].stream, buffer, CHUNK);
        if (turns_taken()) {
            turns_yield();
        }
    }
    receive_all(&connections[0].stream, 1);
}

/* -------------------------------------------------------------------- storm */

/* The side that closes first leaves its port in TIME_WAIT, and there are 28,000
 * of them for each address: take turns with 127.0.0.2 to 127.0.0.251. */
static void
bind_in_turn(int fd)
{
    static uint32_t turn;
    int on = 1;
    struct sockaddr_in name = {.sin_family = AF_INET};

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 250);
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) <
            0 ||
        bind(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        die("bind");
    }
}

static void
end_visit(connection *c)
{
    if (stream_shake(&c->stream, MSG_DONTWAIT)) {
        stream_end(&c->stream);
        c->ended = 1;
    }
}

static void
start_visit(connection *c)
{
    if (to_start > 0) {
        to_start--;
        c->started = clock_ns(CLOCK_MONOTONIC);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) {
            die("socket");
        }
        bind_in_turn(fd);
        connect_to_server(fd);
        stream_open(&c->stream, fd);
        c->ended = 0;
        end_visit(c);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static void
go_on_with_visit(connection *c)
{
    if (!c->ended) {
        end_visit(c);
        return;
    }
    ssize_t size = stream_recv(&c->stream, buffer, 1, MSG_DONTWAIT);
    if (size == 0) {
        stream_close(&c->stream);
        latency_add(&latency, clock_ns(CLOCK_MONOTONIC) - c->started);
        done++;
        start_visit(c);
    }
    else if (size > 0 || errno != EAGAIN) {
        die("the server did not just close a connection");
    }
}

static void
run_storm(long count)
{
    struct epoll_event events[256];

    to_start = count;
    done = 0;
    for (int i = 0; i < connection_count; i++) {
        start_visit(&connections[i]);
    }
    while (done < count) {
        int n = turns_epoll_wait(epoll, events, 256);
        for (int i = 0; i < n; i++) {
            go_on_with_visit(events[i].data.ptr);
        }
    }
}

/* --------------------------------------------------------------------- main */

static void
on_alarm(int signum)
{
    static const char text[] =
        "the server left the load waiting for 20 seconds\n";
    (void)signum;
    (void)!write(2, text, sizeof text - 1);
    _exit(1);
}

static int
next_command(char *line, int room)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (turns_taken() && poll(&input, 1, 0) == 0) {
        turns_yield();
    }
    return fgets(line, room, stdin) != NULL;
}

static void
serve_commands(void (*run)(long))
{
    char line[64];

    printf("{\"ready\": true}\n");
    fflush(stdout);
    /* Whoever waits for a command ends with its parent, which holds the input. */
    alarm(0);
    while (next_command(line, sizeof line)) {
        long count = number(line, 1, 1000000000);
        alarm(LIMIT_SECONDS);
        memset(&latency, 0, sizeof latency);
        uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        uint64_t wall = clock_ns(CLOCK_MONOTONIC);
        run(count);
        wall = clock_ns(CLOCK_MONOTONIC) - wall;
        cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        alarm(0);
        printf("{\"operations\": %ld, \"wall_ns\": %" PRIu64, count, wall);
        /* What the server reads of it is counted where turns are taken. */
        if (!turns_taken()) {
            printf(", \"cpu_ns\": %" PRIu64, cpu);
            latency_print(&latency);
        }
        printf("}\n");
        fflush(stdout);
    }
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        refuse("usage: client MODE ADDRESS ...; the head of client.c lists "
               "the modes");
    }
    const char *mode = argv[1];
    parse_address(argv[2]);
    connection_count = argc > 3 ? (int)number(argv[3], 1, CONNECTIONS_MAX) : 1;
    connections = calloc((size_t)connection_count, sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || epoll < 0) {
        die("out of resources");
    }
    raise_descriptor_limit();
    turns_setup();
    stream_setup(NULL);
    signal(SIGALRM, on_alarm);
    alarm(LIMIT_SECONDS);

    if (strcmp(mode, "exchange") == 0 && argc == 6) {
        prepare_exchange(number(argv[4], 1, BUFFER), number(argv[5], 1, 1000));
        serve_commands(run_exchange);
    }
    else if (strcmp(mode, "http") == 0 && argc == 4) {
        prepare_http();
        serve_commands(run_exchange);
    }
    else if (strcmp(mode, "receive") == 0 && argc == 3) {
        open_connection(&connections[0].stream);
        serve_commands(run_receive);
    }
    else if (strcmp(mode, "send") == 0 && argc == 3) {
        open_connection(&connections[0].stream);
        serve_commands(run_send);
    }
    else if (strcmp(mode, "storm") == 0 && argc == 4) {
        serve_commands(run_storm);
    }
    else {
        refuse("no such mode, or not its arguments");
    }
    return 0;
}
