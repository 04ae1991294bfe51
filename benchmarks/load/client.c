/* client.c - the load generator: one thread, one epoll, loopback only.
 *
 *     client exchange ADDRESS CONNECTIONS SIZE DEPTH
 *         Each connection sends DEPTH messages of SIZE bytes at once and waits
 *         until as many bytes came back, the same ones. One message is one
 *         operation.
 *         To a UDP address each message is a datagram.
 *     client http ADDRESS CONNECTIONS [PATH]
 *         One keep-alive GET at a time on each connection; each response is to
 *         have the body of the first.
 *     client websocket ADDRESS CONNECTIONS SIZE
 *         One message of SIZE bytes at a time there and back on each connection.
 *     client receive ADDRESS
 *         Asks for N times 64 KiB (the number of bytes in 8 bytes, little
 *         endian) and reads them.
 *     client send ADDRESS
 *         Announces N times 64 KiB in the same way, sends them, and waits for
 *         one byte.
 *     client storm ADDRESS CONNECTIONS
 *         Connects, ends its side, waits for the other end to close.
 *     client starttls ADDRESS CONNECTIONS
 *         The same, but sends "tls?" in the clear and waits for "yes" before the
 *         handshake.
 *
 * ADDRESS is tcp:PORT, udp:PORT or unix:PATH; compiled with -DTLS, tls:PORT,
 * where ends and closes are those of TLS. LOAD_RESUME in the environment makes
 * each visit of a storm resume the session of an earlier one, and fail if it
 * cannot; otherwise nothing is resumed. Once its connections stand the
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
    int in_clear;     /* whether it is to be TLS, but is not yet */
} connection;

/* What each connection sends at once, in pieces of so many bytes, and what is to
 * come back: so many bytes, of which the first `known`, and those from `tail` on,
 * are known. */
static struct {
    const char *request;
    size_t request_size;
    size_t piece;
    const char *reply;
    size_t known;
    size_t tail;
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
static int in_clear; /* whether visits begin without TLS */

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
    do {
        size_t size = talk.request_size - c->sent;
        if (size > talk.piece) {
            size = talk.piece;
        }
        ssize_t sent = stream_send(&c->stream, talk.request + c->sent, size,
                                   MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN) {
                die("send");
            }
            break;
        }
        c->sent += (size_t)sent;
        if ((size_t)sent < size) {
            break;
        }
    } while (c->sent < talk.request_size);
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

/* What of the reply is known from `from` to `to`, with as much of it as is among
 * the `size` bytes in the buffer, the first of which has that place. */
static void
compare(size_t place, size_t size, size_t from, size_t to)
{
    size_t first = from > place ? from : place;
    size_t end = to < place + size ? to : place + size;
    if (first < end && memcmp(buffer + (first - place), talk.reply + first,
                              end - first) != 0) {
        refuse("the server sent something else than it was to");
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
    compare(c->received, (size_t)size, 0, talk.known);
    compare(c->received, (size_t)size, talk.tail, talk.reply_size);
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
                while (receive_reply(c) && (stream_pending(&c->stream) ||
                                            talk.piece < talk.request_size)) {
                }
            }
        }
    }
}

/* After each has done `greet`, if it is not NULL. */
static void
open_connections(void (*greet)(stream *s))
{
    for (int i = 0; i < connection_count; i++) {
        connection *c = &connections[i];
        open_connection(&c->stream);
        if (greet != NULL) {
            greet(&c->stream);
        }
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
    talk.request_size = talk.reply_size = talk.known = talk.tail = total;
    talk.piece = server.type == SOCK_DGRAM ? (size_t)size : total;
    talk.operations = depth;
    open_connections(NULL);
}

static void
prepare_http(const char *path)
{
    static const char begin[] = "HTTP/1.1 200 ";
    static char request[1000];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: "
                          "load\r\nAccept: */*\r\n\r\n",
                          path);
    if (length < 0 || (size_t)length >= sizeof request) {
        refuse("the path is too long");
    }
    talk.request = request;
    talk.request_size = talk.piece = (size_t)length;
    talk.operations = 1;

    /* Learn from one response how long each of them is, and its body. */
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
        if (body == NULL) {
            continue;
        }
        talk.tail = (size_t)(body + 4 - buffer);
        char *told = strcasestr(buffer, "\r\ncontent-length:");
        char *chunked = strcasestr(buffer, "\r\ntransfer-encoding: chunked");
        if (told != NULL && told < body) {
            talk.reply_size =
                talk.tail + strtoul(strchr(told, ':') + 1, NULL, 10);
        }
        else if (chunked == NULL || chunked > body) {
            refuse("the HTTP response does not tell its length");
        }
        else if (size >= talk.tail + 5 &&
                 memcmp(buffer + size - 5, "0\r\n\r\n", 5) == 0) {
            talk.reply_size = size;
        }
    }
    if (size > talk.reply_size || memcmp(buffer, begin, strlen(begin)) != 0) {
        refuse("the server sent something else than it was to");
    }
    char *reply = malloc(size);
    if (reply == NULL) {
        die("malloc");
    }
    talk.reply = memcpy(reply, buffer, size);
    talk.known = strlen(begin);
    stream_close(&one);
    open_connections(NULL);
}

/* The opening handshake of a WebSocket; its answer is not looked at further, as
 * the first message shows whether it was meant. */
static void
upgrade(stream *s)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "
        "websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        "MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
    static const char end[] = "\r\n\r\n";
    size_t matched = 0;
    char c;
    stream_send_all(s, request, sizeof request - 1);
    while (matched < strlen(end)) {
        if (stream_recv(s, &c, 1, 0) != 1) {
            refuse("the server does not speak WebSocket");
        }
        matched = c == end[matched] ? matched + 1 : c == end[0];
    }
}

/* The head of the one frame of a binary message; returns its size. */
static size_t
frame_head(unsigned char *head, long size, int masked)
{
    size_t used = 2;
    head[0] = 0x82;
    if (size < 126) {
        head[1] = (unsigned char)size;
    }
    else {
        head[1] = 126;
        head[2] = (unsigned char)(size >> 8);
        head[3] = (unsigned char)size;
        used = 4;
    }
    if (masked) {
        head[1] |= 0x80;
        memset(head + used, 0, 4); /* a mask that changes nothing */
        used += 4;
    }
    return used;
}

static void
prepare_websocket(long size)
{
    char *request = malloc((size_t)size + 8),
         *reply = malloc((size_t)size + 4);
    if (request == NULL || reply == NULL) {
        die("malloc");
    }
    size_t to_head = frame_head((unsigned char *)request, size, 1);
    size_t from_head = frame_head((unsigned char *)reply, size, 0);
    for (long i = 0; i < size; i++) {
        request[to_head + (size_t)i] = reply[from_head + (size_t)i] =
            (char)('a' + i % 23);
    }
    talk.request = request;
    talk.request_size = talk.piece = to_head + (size_t)size;
    talk.reply = reply;
    talk.reply_size = talk.known = talk.tail = from_head + (size_t)size;
    talk.operations = 1;
    open_connections(upgrade);
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
        c->ended = 0;
        c->in_clear = in_clear;
        if (in_clear) {
            c->stream.fd = fd;
            if (send(fd, "tls?", 4, MSG_NOSIGNAL) != 4) {
                die("send");
            }
        }
        else {
            stream_open(&c->stream, fd);
            end_visit(c);
        }
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static void
go_on_with_visit(connection *c)
{
    if (c->in_clear) {
        char answer[3];
        if (recv(c->stream.fd, answer, 3, MSG_WAITALL) != 3 ||
            memcmp(answer, "yes", 3) != 0) {
            refuse("the server does not start TLS");
        }
        c->in_clear = 0;
        stream_open(&c->stream, c->stream.fd);
        end_visit(c);
        return;
    }
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

/* Under valgrind, beside others, a server is a hundred times as slow. */
static void
limit_time(void)
{
    alarm(turns_taken() ? 30 * LIMIT_SECONDS : LIMIT_SECONDS);
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
        limit_time();
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
    limit_time();

    if (strcmp(mode, "exchange") == 0 && argc == 6) {
        prepare_exchange(number(argv[4], 1, BUFFER), number(argv[5], 1, 1000));
        serve_commands(run_exchange);
    }
    else if (strcmp(mode, "http") == 0 && (argc == 4 || argc == 5)) {
        prepare_http(argc == 5 ? argv[4] : "/");
        serve_commands(run_exchange);
    }
    else if (strcmp(mode, "websocket") == 0 && argc == 5) {
        prepare_websocket(number(argv[4], 1, 65535));
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
    else if (strcmp(mode, "starttls") == 0 && argc == 4) {
        in_clear = 1;
        serve_commands(run_storm);
    }
    else {
        refuse("no such mode, or not its arguments");
    }
    return 0;
}
