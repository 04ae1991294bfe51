/* openssl.h - functions of the OpenSSL that the interpreter's ssl module uses.
 *
 * Nothing is linked, and no OpenSSL header is needed. The functions are looked
 * up by name in the library that _ssl is linked with, so the SSL objects
 * always belong to it. If that fails (a private copy of the library, another
 * ssl module), the engine uses the ssl module's methods.
 *
 * The types are opaque, and the constants have been part of the library's ABI
 * since 1.1. */
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

/* Flags and commands of a BIO. */
enum {
    CL_BIO_READ = 0x01,
    CL_BIO_RETRY_FLAGS = 0x0f, /* READ, WRITE, IO_SPECIAL, SHOULD_RETRY */
    CL_BIO_SHOULD_RETRY = 0x08,
    CL_BIO_CTRL_FLUSH = 11,
    CL_BIO_TYPE_SOURCE_SINK = 0x0400,
};

/* name, return type, parameters */
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

/* Finds the functions in the library of the _ssl module (borrowed). Returns 1
 * if all are there and the version is the one it reports, 0 if not, -1 on
 * error. */
int cl_openssl_find(cl_openssl *api, PyObject *_ssl);

/* Returns the SSL* of an _ssl socket object. NULL, without an exception,
 * unless the library confirms that it belongs to this object. */
SSL *cl_openssl_of(const cl_openssl *api, PyObject *ssl_socket);

#endif
