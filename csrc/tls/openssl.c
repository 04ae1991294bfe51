/* openssl.c - see openssl.h. */
#include "tls/openssl.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

/* PySSLSocket starts with these fields since 3.7; it is much longer. */
typedef struct {
    PyObject_HEAD
    PyObject *socket; /* weak reference; NULL if made by wrap_bio() */
    SSL *ssl;
} ssl_socket_head;

/* The library that the _ssl module uses; NULL if unknown. */
static void *
open_library(PyObject *_ssl)
{
    PyObject *file = PyObject_GetAttrString(_ssl, "__file__");
    if (file == NULL) {
        PyErr_Clear();
        return dlopen(NULL, RTLD_LAZY); /* built into the interpreter */
    }
    PyObject *path = NULL;
    void *library = NULL;
    if (PyUnicode_FSConverter(file, &path))
        library = dlopen(PyBytes_AS_STRING(path), RTLD_LAZY | RTLD_NOLOAD);
    else
        PyErr_Clear();
    Py_XDECREF(path);
    Py_DECREF(file);
    return library;
}

static const char *const names[] = {
#define NAME(name, result, arguments) #name,
    CL_OPENSSL_FUNCTIONS(NAME)
#undef NAME
};
enum { FUNCTIONS = sizeof(names) / sizeof(names[0]) };
_Static_assert(sizeof(cl_openssl) == FUNCTIONS * sizeof(void *),
               "it has nothing but functions");

static bool
find_functions(cl_openssl *api, void *library)
{
    for (int i = 0; i < FUNCTIONS; i++) {
        void *found = dlsym(library, names[i]);
        if (found == NULL)
            return false;
        memcpy((char *)api + (size_t)i * sizeof(found), &found, sizeof(found));
    }
    return true;
}

int
cl_openssl_find(cl_openssl *api, PyObject *_ssl)
{
    void *library = open_library(_ssl);
    if (library == NULL)
        return 0;
    bool found = find_functions(api, library);
    dlclose(library); /* the module keeps it loaded */
    if (!found)
        return 0;
    PyObject *number = PyObject_GetAttrString(_ssl, "OPENSSL_VERSION_NUMBER");
    unsigned long version =
        number == NULL ? (unsigned long)-1 : PyLong_AsUnsignedLong(number);
    Py_XDECREF(number);
    if (PyErr_Occurred())
        return -1;
    return version == api->OpenSSL_version_num();
}

SSL *
cl_openssl_of(const cl_openssl *api, PyObject *ssl_socket)
{
    if (Py_TYPE(ssl_socket)->tp_basicsize <
        (Py_ssize_t)sizeof(ssl_socket_head))
        return NULL;
    const ssl_socket_head *head = (const ssl_socket_head *)ssl_socket;
    if (head->socket != NULL || head->ssl == NULL ||
        (uintptr_t)head->ssl % sizeof(void *) != 0)
        return NULL;
    /* _ssl stores its object as the library's ex_data. */
    return api->SSL_get_ex_data(head->ssl, 0) == ssl_socket ? head->ssl : NULL;
}
