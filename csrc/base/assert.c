/* assert.c - see assert.h. */
#include "base/assert.h"

#ifdef CL_DEBUG

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void
cl_assert_failed(const char *expression, const char *file, int line,
                 const char *function, const char *format, ...)
{
    fprintf(stderr, "%s:%d: %s(): cloop's assertion failed: %s", file, line,
            function, expression);
    if (format != NULL) {
        va_list args;
        va_start(args, format);
        fputs(" [", stderr);
        vfprintf(stderr, format, args);
        fputs("]", stderr);
        va_end(args);
    }
    fputs("\n", stderr);
    fflush(stderr);
    abort();
}

#endif
