/* stream.h - a connection: of a bare socket or, compiled with -DTLS, of TLS.
 *
 * The functions do what their namesakes of the socket do, so that the programs
 * are the same for both. A TLS socket is always non-blocking and waits in
 * poll(), if it is to wait at all. */
#ifndef BENCHMARKS_LOAD_STREAM_H
#define BENCHMARKS_LOAD_STREAM_H

#include "common.h"
#include "turns.h"

#ifndef TLS

#define STREAM_SCHEME "tcp:"

typedef struct {
    int fd;
} stream;

/* Once, before the first stream; a server of TLS needs a certificate. */
static inline void
stream_setup(const char *certificate)
{
    (void)certificate;
}

static inline void
stream_open(stream *s, int fd)
{
    s->fd = fd;
}

/* Whether the handshake is done; `flags` as those of recv. */
static inline int
stream_shake(stream *s, int flags)
{
    (void)s;
    (void)flags;
    return 1;
}

static inline ssize_t
stream_recv(stream *s, char *into, size_t room, int flags)
{
    ssize_t size;
    do {
        size = recv(s->fd, into, room, turns_flags(flags));
    } while (size < 0 && turns_again(flags));
    turns_acknowledge(s->fd);
    return size;
}

/* Whether something is received, but not read, that epoll does not know of. */
static inline int
stream_pending(stream *s)
{
    (void)s;
    return 0;
}

static inline ssize_t
stream_send(stream *s, const char *data, size_t size, int flags)
{
    ssize_t sent;
    do {
        sent = send(s->fd, data, size, turns_flags(flags) | MSG_NOSIGNAL);
    } while (sent < 0 && turns_again(flags));
    return sent;
}

/* Whether something was taken, but not sent; the next stream_send sends it. */
static inline int
stream_unsent(stream *s)
{
    (void)s;
    return 0;
}

/* Tells the peer that nothing follows. */
static inline void
stream_end(stream *s)
{
    if (shutdown(s->fd, SHUT_WR) < 0) {
        die("shutdown");
    }
}

static inline void
stream_close(stream *s)
{
    close(s->fd);
}

#else

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define STREAM_SCHEME "tls:"
/* Of what is received and sent at once: the largest message of a row, and the
 * headers of its records. */
#define STREAM_BUFFER (128 * 1024)

typedef struct {
    int fd;
    int resumes;
    SSL *ssl;
} stream;

static SSL_CTX *stream_context;
static int stream_serves;
static int stream_resumes;
static SSL_SESSION *stream_session; /* the latest, if sessions are resumed */

static inline _Noreturn void
stream_die(const char *what)
{
    char why[256];
    ERR_error_string_n(ERR_get_error(), why, sizeof why);
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline int
stream_keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(stream_session);
    stream_session = session;
    return 1;
}

/* LOAD_TLS12 makes a server offer no more than TLS 1.2. */
static inline void
stream_setup(const char *certificate)
{
    stream_serves = certificate != NULL;
    stream_resumes = !stream_serves && getenv("LOAD_RESUME") != NULL;
    stream_context =
        SSL_CTX_new(stream_serves ? TLS_server_method() : TLS_client_method());
    int most = stream_serves && getenv("LOAD_TLS12") ? TLS1_2_VERSION
                                                     : TLS1_3_VERSION;
    if (stream_context == NULL ||
        !SSL_CTX_set_min_proto_version(stream_context, TLS1_2_VERSION) ||
        !SSL_CTX_set_max_proto_version(stream_context, most)) {
        stream_die("SSL_CTX_new");
    }
    if (stream_resumes) {
        SSL_CTX_set_session_cache_mode(stream_context,
                                       SSL_SESS_CACHE_CLIENT |
                                           SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(stream_context, stream_keep_session);
    }
    if (stream_serves &&
        (SSL_CTX_use_certificate_file(stream_context, certificate,
                                      SSL_FILETYPE_PEM) != 1 ||
         SSL_CTX_use_PrivateKey_file(stream_context, certificate,
                                     SSL_FILETYPE_PEM) != 1)) {
        stream_die(certificate);
    }
    /* One recv for a header and its record, and for as many as came. */
    SSL_CTX_set_read_ahead(stream_context, 1);
    SSL_CTX_set_default_read_buffer_len(stream_context, STREAM_BUFFER);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL sends by write() */
}

static inline void
stream_open(stream *s, int fd)
{
    s->fd = fd;
    s->ssl = SSL_new(stream_context);
    BIO *sock = BIO_new_socket(fd, BIO_NOCLOSE);
    /* The records of one SSL_write are sent at once. */
    BIO *gathered = BIO_new(BIO_f_buffer());
    if (s->ssl == NULL || sock == NULL || gathered == NULL ||
        !BIO_set_write_buffer_size(gathered, STREAM_BUFFER) ||
        !BIO_up_ref(sock)) {
        stream_die("SSL_new");
    }
    SSL_set_bio(s->ssl, sock, BIO_push(gathered, sock));
    if (stream_serves) {
        SSL_set_accept_state(s->ssl);
    }
    else {
        SSL_set_connect_state(s->ssl);
        if (stream_session != NULL &&
            !SSL_set_session(s->ssl, stream_session)) {
            stream_die("SSL_set_session");
        }
    }
    s->resumes = stream_session != NULL;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        die("O_NONBLOCK");
    }
}

/* What recv or send returns when an SSL function has returned `result`, that is
 * failed: 0 at the end of the stream, else -1 and errno. */
static inline ssize_t
stream_failed(stream *s, int result)
{
    int error = SSL_get_error(s->ssl, result);
    if (error == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
    }
    else if (error != SSL_ERROR_SYSCALL || errno == EAGAIN) {
        errno = EPROTO;
    }
    ERR_clear_error(); /* SSL_get_error of the next one looks there */
    return -1;
}

/* Whether to try again what has failed, after waiting for it. */
static inline int
stream_await(stream *s, short events, int flags)
{
    if (errno != EAGAIN || (flags & MSG_DONTWAIT)) {
        return 0;
    }
    if (turns_taken()) {
        turns_yield();
        return 1;
    }
    struct pollfd one = {.fd = s->fd, .events = events};
    return poll(&one, 1, -1) == 1;
}

static inline int
stream_shake(stream *s, int flags)
{
    int result;
    while ((result = SSL_do_handshake(s->ssl)) != 1) {
        if (stream_failed(s, result) == 0 || errno != EAGAIN) {
            refuse("the TLS handshake failed");
        }
        if (!stream_await(s, POLLIN, flags)) {
            return 0;
        }
    }
    if (s->resumes && !SSL_session_reused(s->ssl)) {
        refuse("the server did not resume the session");
    }
    return 1;
}

static inline ssize_t
stream_recv(stream *s, char *into, size_t room, int flags)
{
    size_t size = 0, more;
    for (;;) {
        if (SSL_read_ex(s->ssl, into + size, room - size, &more)) {
            size += more;
            turns_acknowledge(s->fd);
            if (size == room || !SSL_has_pending(s->ssl)) {
                return (ssize_t)size;
            }
        }
        else if (size > 0) {
            ERR_clear_error();
            return (ssize_t)size;
        }
        else {
            ssize_t result = stream_failed(s, 0);
            if (result == 0 || !stream_await(s, POLLIN, flags)) {
                return result;
            }
        }
    }
}

static inline int
stream_pending(stream *s)
{
    return SSL_has_pending(s->ssl);
}

static inline int
stream_unsent(stream *s)
{
    return BIO_wpending(SSL_get_wbio(s->ssl)) > 0;
}

static inline ssize_t
stream_send(stream *s, const char *data, size_t size, int flags)
{
    size_t sent = 0;
    while (size > 0 && !SSL_write_ex(s->ssl, data, size, &sent)) {
        if (stream_failed(s, 0) == 0 || !stream_await(s, POLLOUT, flags)) {
            return -1;
        }
    }
    while (BIO_flush(SSL_get_wbio(s->ssl)) <= 0) {
        if (errno != EAGAIN) {
            return -1;
        }
        if (!stream_await(s, POLLOUT, flags)) {
            break;
        }
    }
    return (ssize_t)sent;
}

static inline void
stream_end(stream *s)
{
    if (SSL_shutdown(s->ssl) < 0) {
        stream_die("SSL_shutdown");
    }
}

static inline void
stream_close(stream *s)
{
    /* Fails where the connection has; its own buffers are freed either way. */
    (void)SSL_shutdown(s->ssl);
    ERR_clear_error();
    SSL_free(s->ssl);
    close(s->fd);
}

#endif

/* Blocks until all is sent. */
static inline void
stream_send_all(stream *s, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = stream_send(s, data, size, 0);
        if (sent < 0) {
            die("send");
        }
        data += sent;
        size -= (size_t)sent;
    }
}

#endif
