/* check.h - checks shared by the C tests. A failed one prints its place and
 * ends the program. */
#ifndef TESTS_C_CHECK_H
#define TESTS_C_CHECK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Active in every build, unlike assert(). */
#define CHECK(condition) \
    check_true(condition, #condition, __FILE__, __LINE__, __func__)
#define CHECK_INT(actual, expected) \
    check_int(actual, expected, #actual, __FILE__, __LINE__, __func__)

/* What the tests currently run on, for example a back end; printed on failure.
 */
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

static inline int
lowest_free_descriptor(void)
{
    int fd = dup(0);
    CHECK(fd >= 0);
    close(fd);
    return fd;
}

/* Checks that the statement fails a cl_assert() whose message contains
 * `expected`. */
#define CHECK_ASSERTS(statement, expected) \
    do { \
        int check_fds[2]; \
        CHECK_INT(pipe(check_fds), 0); \
        pid_t check_pid = fork(); \
        CHECK(check_pid >= 0); \
        if (check_pid == 0) { \
            dup2(check_fds[1], 2); \
            statement; \
            _exit(0); \
        } \
        check_asserted(check_pid, check_fds, expected, #statement, __FILE__, \
                       __LINE__, __func__); \
    } while (0)

static inline void
check_asserted(pid_t child, const int fds[2], const char *expected,
               const char *text, const char *file, int line, const char *test)
{
    char said[1024] = "";
    size_t size = 0;
    ssize_t got;
    int status = 0;
    close(fds[1]);
    while (size < sizeof(said) - 1 &&
           (got = read(fds[0], said + size, sizeof(said) - 1 - size)) > 0)
        size += (size_t)got;
    close(fds[0]);
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
        WTERMSIG(status) == SIGABRT &&
        strstr(said, "assertion failed") != NULL &&
        strstr(said, expected) != NULL)
        return;
    fprintf(stderr, "%s:%d: %s(%s): %s: status %d, said: %s\n", file, line,
            test, check_context, text, status, said);
    exit(1);
}

/* Returns the next number of a sequence that is the same on every machine
 * (xorshift). The initial `*state` must not be 0. */
static inline uint32_t
check_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

#endif
