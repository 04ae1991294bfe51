/* stress.c - see stress.h. */
#include "base/stress.h"

#ifdef CL_INJECT

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES (1 << CL_STRESS_PLACES_BITS)
#define OF_PAIR 2    /* a bit of a place of two callers; bit 0 is set in all */
#define SEVERAL 1000 /* a round of places where several fail in a row */

/* At file scope, against the rule (tests/test_source.py), because it is needed
 * before the module exists. */
static struct {
    atomic_long count, first, last, then, more;
    atomic_long objects, collect, round;
    atomic_size_t send, receive;
    atomic_bool place, pairs, record, calls;
    atomic_long failed_places;
    atomic_uintptr_t *shared; /* instead of `places`, or NULL */
    /* By hash; 0: free. */
    atomic_uintptr_t places[PLACES], seen[PLACES], seen_objects[PLACES];
} stress;

#if defined(__x86_64__) || defined(__aarch64__)
/* Where this library's code is. The linker defines both. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
#define LOADED_AT ((uintptr_t)__ehdr_start)
#define LOADED_AT_IS_KNOWN 1
#else
#define LOADED_AT_IS_KNOWN 0
#define LOADED_AT ((uintptr_t)0)
#endif

/* Makes the table of places a file that other processes have, too, if a place is
 * the same in each. It stays mapped until the process ends. */
static void
share(const char *path)
{
    const size_t size = PLACES * sizeof(atomic_uintptr_t);
    int fd = LOADED_AT_IS_KNOWN ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory =
        ftruncate(fd, (off_t)size) < 0
            ? MAP_FAILED
            : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        stress.shared = memory;
}

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
    if (getenv("CLOOP_STRESS_PLACES") != NULL)
        share(getenv("CLOOP_STRESS_PLACES"));
    cl_stress_set(&orders);
}

void
cl_stress_set(const cl_stress_orders *orders)
{
    long last = orders->lasting > LONG_MAX - orders->nomem
                    ? LONG_MAX
                    : orders->nomem + orders->lasting - 1;
    atomic_store(&stress.first, 0); /* until the rest is set, nothing fails */
    atomic_store(&stress.place, false);
    atomic_store(&stress.record, orders->record);
    if (orders->record) {
        memset((void *)stress.seen, 0, sizeof(stress.seen));
        memset((void *)stress.seen_objects, 0, sizeof(stress.seen_objects));
    }
    atomic_store(&stress.count, 0);
    atomic_store(&stress.last, last);
    atomic_store(&stress.then, orders->then);
    atomic_store(&stress.more, orders->place ? orders->lasting - 1 : 0);
    atomic_store(&stress.first, orders->nomem);
    atomic_store(&stress.pairs, orders->pairs);
    atomic_store(&stress.place, orders->place);
    atomic_store(&stress.calls,
                 orders->calls || orders->place || orders->record);
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

/* Where this place is in a table, or would be; NULL if that is full. */
static atomic_uintptr_t *
slot_of(atomic_uintptr_t *table, uintptr_t place)
{
    uint64_t hash =
        ((uint64_t)place * 0x9E3779B97F4A7C15) >> (64 - CL_STRESS_PLACES_BITS);
    for (size_t n = 0; n < PLACES; n++) {
        atomic_uintptr_t *slot = &table[(hash + n) % PLACES];
        uintptr_t found = atomic_load(slot);
        if (found == 0 || found == place)
            return slot;
    }
    return NULL;
}

/* Returns whether it was not there. */
static bool
add(atomic_uintptr_t *table, uintptr_t place)
{
    atomic_uintptr_t *slot;
    while ((slot = slot_of(table, place)) != NULL) {
        uintptr_t found = 0;
        if (atomic_compare_exchange_strong(slot, &found, place))
            return true;
        if (found == place)
            return false;
    }
    return false;
}

static atomic_uintptr_t *
failed_places(void)
{
    return stress.shared != NULL ? stress.shared : stress.places;
}

static uintptr_t
in_round(uintptr_t place, long round)
{
    return (place + (uintptr_t)round * 7919 * 64) | 1;
}

/* Whether none has failed at this place yet in this round; from now on, one
 * has. */
static bool
is_new_place(uintptr_t place, long round)
{
    if (!add(failed_places(), in_round(place, round)))
        return false;
    atomic_fetch_add(&stress.failed_places, 1);
    return true;
}

size_t
cl_stress_seen(bool objects, uintptr_t *to, size_t most)
{
    atomic_uintptr_t *table = objects ? stress.seen_objects : stress.seen;
    size_t count = 0;
    for (size_t n = 0; n < PLACES && count < most; n++) {
        uintptr_t place = atomic_load(&table[n]);
        if (place != 0)
            to[count++] = place;
    }
    return count;
}

bool
cl_stress_is_left(uintptr_t place, bool pairs, bool several, long round)
{
    if ((place & OF_PAIR) != 0 && !pairs)
        return false;
    atomic_uintptr_t *slot =
        slot_of(failed_places(), in_round(place, several ? SEVERAL : round));
    return slot != NULL && atomic_load(slot) == 0;
}

/* An address in our code, as it is in each process. Python's are all one. */
static uintptr_t
offset_of(const void *address)
{
#if LOADED_AT_IS_KNOWN
    if ((const char *)address < __ehdr_start || (const char *)address >= etext)
        return 0;
#endif
    return (uintptr_t)address - LOADED_AT;
}

static uintptr_t
place_of(uintptr_t line, const void *caller)
{
    uintptr_t place = line * 1000003 + offset_of(caller);
    return (place & ~(uintptr_t)OF_PAIR) | 1;
}

static uintptr_t
line_of(const cl_stress_site *site)
{
    return ((uintptr_t)site->file - LOADED_AT) * 31 + (uintptr_t)site->line;
}

/* What is done with a place: whether something must be done there. */
typedef bool (*visit)(uintptr_t place, long round);

static bool
note(uintptr_t place, long round)
{
    (void)round;
    (void)add(stress.seen, place);
    return false;
}

#if LOADED_AT_IS_KNOWN
/* Whether none has failed from this caller up, or, with `pairs`, where these two
 * follow each other among the callers: each failure goes up through all of them,
 * and a caller may handle it. The code of these builds has frame pointers;
 * Python's need not. */
static bool
look_at_callers(const void *caller, bool pairs, long round, visit visit)
{
    const void *const *frame = __builtin_frame_address(0);
    bool found = false, is_new = false;
    while (offset_of(frame[1]) != 0) {
        const void *below = frame[1];
        found = found || below == caller;
        frame = frame[0];
        uintptr_t at = offset_of(below);
        uintptr_t place =
            pairs ? place_of(at, frame[1]) | OF_PAIR : place_of(at, NULL);
        if (found && visit(place, round))
            is_new = true;
    }
    return is_new;
}
#else
static bool
look_at_callers(const void *caller, bool pairs, long round, visit visit)
{
    (void)caller;
    (void)pairs;
    (void)round;
    (void)visit;
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
    bool pairs = atomic_load(&stress.pairs);
    if (atomic_load(&stress.record)) {
        (void)note(place_of(line_of(site), caller), 0);
        (void)look_at_callers(caller, false, 0, note);
        (void)look_at_callers(caller, true, 0, note);
    }
    if (!atomic_load(&stress.place))
        return false;
    /* Others than those of a single failure, or of a collection. */
    long more = atomic_load(&stress.more);
    long round = more > 0 ? SEVERAL : 0;
    bool is_new = is_new_place(place_of(line_of(site), caller), round);
    if (!look_at_callers(caller, pairs, round, is_new_place) && !is_new)
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
    if (atomic_load(&stress.record))
        (void)add(stress.seen_objects, place_of(line_of(site), caller));
    if (round > 0 && is_new_place(place_of(line_of(site), caller), round)) {
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
