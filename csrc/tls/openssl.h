/* openssl.h - the OpenSSL that the interpreter's ssl module has loaded, by hand.
 *
 * Nothing is linked, and no header of OpenSSL is needed: its functions are found by
 * name in what _ssl is linked with, so the SSL objects are always of the same
 * library. An interpreter where that fails (one that hides a library of its own, one
 * with another ssl module) is told so, and the engine takes the way through Python.
 *
 * The types are opaque and the constants are part of the library's ABI since 1.1. */
#ifndef CL_TLS_OPENSSL_H
#define CL_TLS_OPENSSL_H

#include "base/compat.h"

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

/* SSL_get_error() */
enum {
    CL_SSL_WANT_READ = 2,
    CL_SSL_WANT_WRITE = 3,
    CL_SSL_ZERO_RETURN = 6,
};

/* What a BIO's flags and commands are called. */
enum {
    CL_BIO_READ = 0x01,
    CL_BIO_RETRY_FLAGS = 0x0f, /* READ, WRITE, IO_SPECIAL, SHOULD_RETRY */
    CL_BIO_SHOULD_RETRY = 0x08,
    CL_BIO_CTRL_FLUSH = 11,
    CL_BIO_TYPE_SOURCE_SINK = 0x0400,
};

/* name, result, arguments */
#define CL_OPENSSL_FUNCTIONS(X) \
    X(SSL_read, int, (SSL *, void *, int)) \
    X(SSL_write, int, (SSL *, const void *, int)) \
    X(SSL_pending, int, (const SSL *)) \
    X(SSL_get_error, int, (const SSL *, int)) \
    X(SSL_get_ex_data, void *, (const SSL *, int)) \
    X(SSL_set_bio, void, (SSL *, BIO *, BIO *)) \
    X(ERR_clear_error, void, (void)) \
    X(BIO_new, BIO *, (const BIO_METHOD *)) \
    X(BIO_set_data, void, (BIO *, void *)) \
    X(BIO_get_data, void *, (BIO *)) \
    X(BIO_set_init, void, (BIO *, int)) \
    X(BIO_set_flags, void, (BIO *, int)) \
    X(BIO_clear_flags, void, (BIO *, int)) \
    X(BIO_meth_new, BIO_METHOD *, (int, const char *)) \
    X(BIO_meth_free, void, (BIO_METHOD *)) \
    X(BIO_meth_set_write, int, \
      (BIO_METHOD *, int (*)(BIO *, const char *, int))) \
    X(BIO_meth_set_read, int, (BIO_METHOD *, int (*)(BIO *, char *, int))) \
    X(BIO_meth_set_ctrl, int, \
      (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \
    X(BIO_meth_set_create, int, (BIO_METHOD *, int (*)(BIO *))) \
    X(OpenSSL_version_num, unsigned long, (void))

typedef struct {
#define FIELD(name, result, arguments) result(*name) arguments;
    CL_OPENSSL_FUNCTIONS(FIELD)
#undef FIELD
} cl_openssl;

/* Finds the functions in what the _ssl module (borrowed) is linked with. 1 if all are
 * there and of the library that it says it uses, 0 if not, -1 on error. */
int cl_openssl_find(cl_openssl *api, PyObject *_ssl);

/* The SSL* of a socket object of the _ssl module, of which the library itself says
 * that it belongs to this object; NULL, without an exception, if that is not so. */
SSL *cl_openssl_of(const cl_openssl *api, PyObject *ssl_socket);

#endif
