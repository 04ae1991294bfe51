/* wakeup.c - see wakeup.h. */
#include "core/wakeup.h"

#include "base/platform.h"

#ifdef CL_HAVE_ELF

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* A shared object has one or two writable segments. */
#define SEGMENTS_MAX 4

typedef struct {
    const int *start;
    size_t count;
    int *copy; /* owned: the contents before the search */
} segment;

typedef struct {
    uintptr_t inside; /* an address in the object to find */
    segment segments[SEGMENTS_MAX];
    int count;
} object;

static int
look_at_object(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *arg)
{
    object *found = arg;
    bool here = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        here |= header->p_type == PT_LOAD && found->inside >= start &&
                found->inside < start + header->p_memsz;
    }
    for (int i = 0; here && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        uintptr_t aligned = (start + sizeof(int) - 1) & ~(sizeof(int) - 1);
        if (header->p_type != PT_LOAD || (header->p_flags & PF_W) == 0 ||
            header->p_memsz < 4 * sizeof(int) || found->count == SEGMENTS_MAX)
            continue;
        found->segments[found->count++] = (segment){
            .start = (const int *)aligned,
            .count = (start + header->p_memsz - aligned) / sizeof(int)};
    }
    return here;
}

/* Not memcpy(): in an interpreter built with a sanitizer there are red zones
 * between the variables, and memcpy() must not read them. */
__attribute__((no_sanitize("address", "thread"))) static void
copy_ints(int *to, const int *from, size_t count)
{
    size_t i = 0;
    for (; i < count && ((uintptr_t)&from[i] & 7) != 0; i++)
        to[i] = ((const volatile int *)from)[i];
    for (; i + 2 <= count; i += 2) {
        uint64_t both = *(const volatile uint64_t *)&from[i];
        memcpy(&to[i], &both, sizeof(both));
    }
    for (; i < count; i++)
        to[i] = ((const volatile int *)from)[i];
}

static bool
copy_segments(object *where)
{
    for (int s = 0; s < where->count; s++) {
        segment *part = &where->segments[s];
        part->copy = cl_malloc(part->count * sizeof(int));
        if (part->copy == NULL)
            return false;
        copy_ints(part->copy, part->start, part->count);
    }
    return true;
}

/* Sets the descriptor, and stores the one before in *previous. Leaves no
 * exception. */
static bool
set_wakeup(PyObject *set_wakeup_fd, int fd, bool warns, int *previous)
{
    PyObject *args = Py_BuildValue("(i)", fd);
    PyObject *kwargs = Py_BuildValue("{sO}", "warn_on_full_buffer",
                                     warns ? Py_True : Py_False);
    PyObject *result = args == NULL || kwargs == NULL
                           ? NULL
                           : PyObject_Call(set_wakeup_fd, args, kwargs);
    *previous = result == NULL ? -1 : (int)PyLong_AsLong(result);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(result);
    bool done = result != NULL && !PyErr_Occurred();
    PyErr_Clear();
    return done;
}

/* Limit for the pairs that match at first. There may be many, because a
 * descriptor is a small number and the second value is 0. */
#define PAIRS_MAX 1024

typedef struct {
    const int *pairs[PAIRS_MAX];
    const int *before[PAIRS_MAX]; /* the contents before the search */
    int count;
} matches;

/* Finds the pairs that now hold {fd, 0}. */
__attribute__((no_sanitize("address", "thread"))) static void
find_pairs(const object *where, int fd, matches *found)
{
    for (int s = 0; s < where->count; s++) {
        const segment *part = &where->segments[s];
        const int *now = part->start;
        for (size_t i = 0; i + 1 < part->count && found->count < PAIRS_MAX;
             i++) {
            if (now[i] != fd || now[i + 1] != 0)
                continue;
            found->pairs[found->count] = &now[i];
            found->before[found->count++] = &part->copy[i];
        }
    }
    if (found->count == PAIRS_MAX) /* some may be missing */
        found->count = 0;
}

/* Keeps the pairs that now hold {fd, warns}. */
static void
keep_pairs(int fd, int warns, matches *found)
{
    int kept = 0;
    for (int i = 0; i < found->count; i++) {
        const volatile int *pair = found->pairs[i];
        if (pair[0] != fd || pair[1] != warns)
            continue;
        found->pairs[kept] = found->pairs[i];
        found->before[kept++] = found->before[i];
    }
    found->count = kept;
}

/* Forwards the signals that came during the search. */
static void
pass_on(int from, int to)
{
    unsigned char numbers[64];
    ssize_t count;
    while ((count = read(from, numbers, sizeof(numbers))) > 0) {
        if (to >= 0 && write(to, numbers, (size_t)count) < 0)
            return;
    }
}

/* Duplicates a descriptor to a number that memory seldom holds: of small ones
 * with a 0 behind them CPython 3.12 has thousands. */
static int
duplicate(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 211);
    return copy >= 0 ? copy : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static const volatile int *
find(object *where, PyObject *set_wakeup_fd)
{
    int fds[2], previous = -1, ignored;
    matches found;
    bool warned = true;
    found.count = 0;
    if (cl_pipe(fds) < 0)
        return NULL;
    int first = duplicate(fds[1]), other = duplicate(fds[1]);
    if (first >= 0 && other >= 0 &&
        set_wakeup(set_wakeup_fd, first, false, &previous)) {
        find_pairs(where, first, &found);
        (void)set_wakeup(set_wakeup_fd, other, true, &ignored);
        keep_pairs(other, true, &found);
        (void)set_wakeup(set_wakeup_fd, first, true, &ignored);
        keep_pairs(first, true, &found);
        if (found.count == 1 && found.before[0][0] == previous)
            warned = found.before[0][1] != 0;
        else
            found.count = 0;
        /* Fails if it was closed meanwhile: then there is none. */
        if (!set_wakeup(set_wakeup_fd, previous, warned, &ignored))
            (void)set_wakeup(set_wakeup_fd, -1, true, &ignored);
        pass_on(fds[0], previous);
    }
    close(fds[0]);
    close(fds[1]);
    if (first >= 0)
        close(first);
    if (other >= 0)
        close(other);
    return found.count == 1 ? found.pairs[0] : NULL;
}

static void
seek(cl_wakeup *wakeup, PyObject *set_wakeup_fd)
{
    object where = {.inside = (uintptr_t)&PyErr_SetInterrupt};
    if (dl_iterate_phdr(look_at_object, &where) != 0 && copy_segments(&where))
        wakeup->u_pair = find(&where, set_wakeup_fd);
    for (int i = 0; i < where.count; i++)
        cl_free(where.segments[i].copy);
}

#else

static void
seek(cl_wakeup *Py_UNUSED(wakeup), PyObject *Py_UNUSED(set_wakeup_fd))
{
}

#endif

int
cl_wakeup_read(cl_wakeup *wakeup, PyObject *set_wakeup_fd, int *fd,
               bool *warns)
{
    if (!wakeup->u_sought) {
        wakeup->u_sought = true;
        seek(wakeup, set_wakeup_fd);
    }
    if (wakeup->u_pair == NULL)
        return 0;
    *fd = wakeup->u_pair[0];
    *warns = wakeup->u_pair[1] != 0;
    return 1;
}
