/* stress.c - see stress.h. */
#include "base/stress.h"

#ifdef CL_INJECT

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define PLACES (1 << 16)
#define SEVERAL 1000 /* a round of places where several fail in a row */

/* At file scope, against the rule (tests/test_source.py), because it is needed
 * before the module exists. */
static struct {
    atomic_long count, first, last, then, more;
    atomic_long objects, collect, round;
    atomic_size_t send, receive;
    atomic_bool place, calls;
    atomic_long failed_places;
    atomic_uintptr_t places[PLACES]; /* by hash; 0: free */
} stress;

static long
number(const char *name)
{
    const char *text = getenv(name);
    long value = text == NULL ? 0 : strtol(text, NULL, 10);
    return value > 0 ? value : 0;
}

void
cl_stress_read_environment(void)
{
    static atomic_bool done; /* a second module must not end what is ordered */
    if (atomic_exchange(&done, true))
        return;
    const cl_stress_orders orders = {
        .nomem = number("CLOOP_STRESS_NOMEM"),
        .lasting = 1,
        .collect = number("CLOOP_STRESS_COLLECT"),
        .send = (size_t)number("CLOOP_STRESS_SEND"),
        .receive = (size_t)number("CLOOP_STRESS_RECEIVE"),
    };
    cl_stress_set(&orders);
}

void
cl_stress_set(const cl_stress_orders *orders)
{
    long last = orders->lasting > LONG_MAX - orders->nomem
                    ? LONG_MAX
                    : orders->nomem + orders->lasting - 1;
    atomic_store(&stress.first, 0); /* until the rest is set, nothing fails */
    atomic_store(&stress.count, 0);
    atomic_store(&stress.last, last);
    atomic_store(&stress.then, orders->then);
    atomic_store(&stress.more, orders->place ? orders->lasting - 1 : 0);
    atomic_store(&stress.first, orders->nomem);
    atomic_store(&stress.place, orders->place);
    atomic_store(&stress.calls, orders->calls || orders->place);
    atomic_store(&stress.collect, orders->collect);
    atomic_store(&stress.round, orders->round);
    atomic_store(&stress.send, orders->send);
    atomic_store(&stress.receive, orders->receive);
}

long
cl_stress_count(void)
{
    return atomic_load(&stress.count);
}

long
cl_stress_places(void)
{
    return atomic_load(&stress.failed_places);
}

/* Whether none has failed at this place yet; from now on, one has. */
static bool
is_new_place(uintptr_t place)
{
    for (size_t n = 0; n < PLACES; n++) {
        atomic_uintptr_t *slot = &stress.places[(place + n) % PLACES];
        uintptr_t found = 0;
        if (atomic_compare_exchange_strong(slot, &found, place)) {
            atomic_fetch_add(&stress.failed_places, 1);
            return true;
        }
        if (found == place)
            return false;
    }
    return false;
}

static uintptr_t
place_of(uintptr_t line, const void *caller, long round)
{
    return (line * 1000003 + (uintptr_t)caller +
            (uintptr_t)round * 7919 * 64) |
           1;
}

static uintptr_t
line_of(const cl_stress_site *site)
{
    return (uintptr_t)site->file * 31 + (uintptr_t)site->line;
}

#if defined(__x86_64__) || defined(__aarch64__)
/* Where this library's code is. The linker defines both. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

/* Whether none has failed where these two follow each other among the callers:
 * each failure goes up through all of them, and a caller may handle it. The
 * code of these builds has frame pointers; Python's need not. */
static bool
has_new_callers(const void *caller, long round)
{
    const void *const *frame = __builtin_frame_address(0);
    bool found = false, is_new = false;
    while ((const char *)frame[1] >= __ehdr_start &&
           (const char *)frame[1] < etext) {
        const void *below = frame[1];
        found = found || below == caller;
        frame = frame[0];
        if (found && is_new_place(place_of((uintptr_t)below, frame[1], round)))
            is_new = true;
    }
    return is_new;
}
#else
static bool
has_new_callers(const void *caller, long round)
{
    (void)caller;
    (void)round;
    return false;
}
#endif

static bool
must_fail(const cl_stress_site *site, const void *caller)
{
    long count = atomic_fetch_add(&stress.count, 1) + 1;
    long first = atomic_load(&stress.first);
    if (first > 0 && count >= first && count <= atomic_load(&stress.last))
        return true;
    if (first > 0 && count == atomic_load(&stress.then))
        return true;
    if (!atomic_load(&stress.place))
        return false;
    /* Others than those of a single failure, or of a collection. */
    long more = atomic_load(&stress.more);
    long round = more > 0 ? SEVERAL : 0;
    bool is_new = is_new_place(place_of(line_of(site), caller, round));
    if (!has_new_callers(caller, round) && !is_new)
        return false;
    atomic_store(&stress.place, false);
    if (more > 0) {
        atomic_store(&stress.last, count + more);
        atomic_store(&stress.first, count);
    }
    return true;
}

bool
cl_stress_fails(cl_stress_site *site, const void *caller)
{
    bool fails = must_fail(site, caller);
    atomic_fetch_add(&site->reached, 1);
    if (fails)
        atomic_fetch_add(&site->failed, 1);
    return fails;
}

bool
cl_stress_call_fails(cl_stress_site *site, const void *caller)
{
    return atomic_load(&stress.calls) && cl_stress_fails(site, caller);
}

extern cl_stress_site __start_cl_sites[], __stop_cl_sites[];

cl_stress_site *
cl_stress_sites(size_t *count)
{
    *count = (size_t)(__stop_cl_sites - __start_cl_sites);
    return __start_cl_sites;
}

bool
cl_stress_collects(const cl_stress_site *site, const void *caller)
{
    long period = atomic_load(&stress.collect);
    long round = atomic_load(&stress.round);
    if (round > 0 && is_new_place(place_of(line_of(site), caller, round))) {
        atomic_store(&stress.round, 0);
        return true;
    }
    return period > 0 && atomic_fetch_add(&stress.objects, 1) % period == 0;
}

static size_t
at_most(size_t size, size_t limit)
{
    return limit > 0 && limit < size ? limit : size;
}

size_t
cl_stress_send(size_t size)
{
    /* A large write is always partial. */
    return at_most(size > 1024 ? size / 2 : size, atomic_load(&stress.send));
}

size_t
cl_stress_receive(size_t size)
{
    return at_most(size, atomic_load(&stress.receive));
}

#endif
