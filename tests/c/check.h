/* check.h - what the C tests share: checks that end the program and say where. */
#ifndef TESTS_C_CHECK_H
#define TESTS_C_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Active in every build, unlike assert(). */
#define CHECK(condition) \
    check_true(condition, #condition, __FILE__, __LINE__, __func__)
#define CHECK_INT(actual, expected) \
    check_int(actual, expected, #actual, __FILE__, __LINE__, __func__)

/* What the tests are run over at the moment; named when one fails. */
static const char *check_context = "";

static inline void
check_true(bool holds, const char *text, const char *file, int line,
           const char *test)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: %s(%s): not so: %s\n", file, line, test,
            check_context, text);
    exit(1);
}

static inline void
check_int(long long actual, long long expected, const char *text,
          const char *file, int line, const char *test)
{
    if (actual == expected)
        return;
    fprintf(stderr, "%s:%d: %s(%s): %s is %lld, not %lld\n", file, line, test,
            check_context, text, actual, expected);
    exit(1);
}

/* The next of a sequence that is the same on every machine (xorshift);
 * `*state` starts as anything but 0. */
static inline uint32_t
check_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

#endif
