/* spawn.c - see spawn.h. */
#include "spawn.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"

#if defined(CL_HAVE_VFORK) && CL_SUBPROCESS_FORKS

/* What a child needs, made before there is one. */
typedef struct {
    char **programs; /* tried in turn; NULL at the end, as the next ones */
    char **argv;
    char **env; /* NULL: the parent's */
    const char *cwd;
    int *kept; /* descriptors, in ascending order */
    int kept_count;
    int p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite;
    int report; /* the pipe for the error, and its other end */
    int report_read;
    int umask;
    bool close_fds, restore_signals, call_setsid;
} child_plan;

/* ------------------------------------------------------------------ in the child */

/* As _posixsubprocess does: read by subprocess.Popen. */
static void
tell(int fd, int error, bool changed_folder)
{
    static const char digits[] = "0123456789abcdef";
    char number[2 * sizeof(int)], text[32] = "OSError:";
    size_t size = strlen(text), count = 0;
    for (unsigned rest = (unsigned)error; rest != 0; rest >>= 4)
        number[count++] = digits[rest & 15];
    while (count > 0)
        text[size++] = number[--count];
    text[size++] = ':';
    if (!changed_folder) {
        memcpy(text + size, "noexec", 6);
        size += 6;
    }
    while (write(fd, text, size) < 0 && errno == EINTR)
        ;
}

static int
set_inherited(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags < 0 ? -1 : fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

static int
let_inherit(const child_plan *plan)
{
    for (int i = 0; i < plan->kept_count; i++) {
        /* The pipe for the error is closed by exec(). */
        if (plan->kept[i] != plan->report && set_inherited(plan->kept[i]) < 0)
            return -1;
    }
    return 0;
}

static int
close_if_open(int fd)
{
    return fd == -1 ? 0 : close(fd);
}

/* Makes `fd` the standard stream with that number. */
static int
put(int fd, int number)
{
    if (fd == number)
        return set_inherited(fd);
    return fd == -1 ? 0 : dup2(fd, number);
}

static int
connect_streams(const child_plan *plan)
{
    int out = plan->c2pwrite, err = plan->errwrite;
    if (close_if_open(plan->p2cwrite) < 0 ||
        close_if_open(plan->c2pread) < 0 || close_if_open(plan->errread) < 0 ||
        close(plan->report_read) < 0)
        return -1;
    /* What is in the place of a stream must not be overwritten. The copies are
     * not inherited. */
    if (out == 0 && (out = fcntl(out, F_DUPFD_CLOEXEC, 0)) < 0)
        return -1;
    while (err == 0 || err == 1) {
        if ((err = fcntl(err, F_DUPFD_CLOEXEC, 0)) < 0)
            return -1;
    }
    return put(plan->p2cread, 0) < 0 || put(out, 1) < 0 || put(err, 2) < 0 ? -1
                                                                           : 0;
}

/* Handlers are the parent's functions: none may run in the child. */
static void
forget_handlers(const sigset_t *blocked)
{
    struct sigaction action;
    for (int number = 1; number < NSIG; number++) {
        if (number == SIGKILL || number == SIGSTOP ||
            sigismember(blocked, number) == 1 ||
            sigaction(number, NULL, &action) < 0 ||
            action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
            continue;
        memset(&action, 0, sizeof(action));
        action.sa_handler = SIG_DFL;
        sigemptyset(&action.sa_mask);
        (void)sigaction(number, &action, NULL);
    }
}

/* Those that Python ignores. */
static void
restore_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGPIPE, &action, NULL);
#ifdef SIGXFSZ
    (void)sigaction(SIGXFSZ, &action, NULL);
#endif
}

/* Returns only if no program can be run, with errno. */
static void
run_program(const child_plan *plan)
{
    int error = 0;
    for (char **program = plan->programs; *program != NULL; program++) {
        if (plan->env != NULL)
            execve(*program, plan->argv, plan->env);
        else
            execv(*program, plan->argv);
        if (errno != ENOENT && errno != ENOTDIR && error == 0)
            error = errno;
    }
    if (error != 0)
        errno = error;
}

static _Noreturn void
be_child(const child_plan *plan, const sigset_t *blocked)
{
    bool changed_folder = false;
    forget_handlers(blocked);
    if (let_inherit(plan) == 0 && connect_streams(plan) == 0 &&
        (plan->cwd == NULL || chdir(plan->cwd) == 0)) {
        if (plan->umask >= 0)
            (void)umask((mode_t)plan->umask);
        if (plan->restore_signals)
            restore_signals();
        (void)pthread_sigmask(SIG_SETMASK, blocked, NULL);
        if (!plan->call_setsid || setsid() >= 0) {
            changed_folder = true;
            if (plan->close_fds)
                cl_close_all_but(3, plan->kept, plan->kept_count);
            run_program(plan);
        }
    }
    tell(plan->report, errno, changed_folder);
    _exit(255);
}

/* ----------------------------------------------------------------- in the parent */

/* A function of its own: what the child does to its frame, the parent does not
 * see. Returns the number of the child, or -errno. */
static __attribute__((noinline)) pid_t
start(const child_plan *plan, const sigset_t *blocked)
{
    pid_t pid = vfork();
    if (pid < 0) /* as _posixsubprocess: it may be forbidden */
        pid = fork();
    if (pid == 0)
        be_child(plan, blocked);
    return pid < 0 ? -errno : pid;
}

static pid_t
start_blocked(const child_plan *plan)
{
    sigset_t all, before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_BLOCK, &all, &before);
    if (error != 0)
        return -error;
    pid_t pid = start(plan, &before);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* Returns the pointers to a sequence's texts, in memory of their own, with NULL
 * at the end. `kept` gets a list of the bytes objects. */
static char **
texts(PyObject *sequence, PyObject **kept)
{
    PyObject *fast = PySequence_Fast(sequence, "argv must be a tuple");
    Py_ssize_t count = fast == NULL ? 0 : PySequence_Fast_GET_SIZE(fast);
    char **array = fast == NULL ? NULL : PyMem_New(char *, count + 1);
    *kept = array == NULL ? NULL : PyList_New(0);
    if (fast != NULL && array == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; *kept != NULL && i < count; i++) {
        PyObject *bytes = NULL, *item = NULL;
        if (PySequence_Fast_GET_SIZE(fast) != count)
            PyErr_SetString(PyExc_RuntimeError,
                            "args changed during iteration");
        else if (PyUnicode_FSConverter(
                     item = Py_NewRef(PySequence_Fast_GET_ITEM(fast, i)),
                     &bytes) &&
                 PyList_Append(*kept, bytes) == 0)
            array[i] = PyBytes_AS_STRING(bytes);
        Py_XDECREF(bytes); /* the list has it */
        Py_XDECREF(item);
        if (PyErr_Occurred())
            Py_CLEAR(*kept);
    }
    Py_XDECREF(fast);
    if (*kept == NULL) {
        PyMem_Free(array);
        return NULL;
    }
    array[count] = NULL;
    return array;
}

/* The descriptors of a tuple in ascending order, in memory of their own. */
static int *
numbers(PyObject *tuple, int *count)
{
    long last = -1;
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    int *array = PyMem_New(int, size + 1);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        long number = PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));
        if (number <= last || number > INT_MAX) {
            if (!PyErr_Occurred() ||
                PyErr_ExceptionMatches(PyExc_OverflowError))
                PyErr_SetString(PyExc_ValueError,
                                "bad value(s) in fds_to_keep");
            PyMem_Free(array);
            return NULL;
        }
        array[i] = (int)(last = number);
    }
    *count = (int)size;
    return array;
}

PyDoc_STRVAR(
    fork_exec_doc,
    "fork_exec(args, executable_list, close_fds, fds_to_keep, cwd, env_list, "
    "p2cread,\n"
    "p2cwrite, c2pread, c2pwrite, errread, errwrite, errpipe_read, "
    "errpipe_write,\n"
    "restore_signals, call_setsid, umask, /)\n\n"
    "Start a child by vfork(); return its number. As "
    "_posixsubprocess.fork_exec().");

static PyObject *
fork_exec(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *argv, *programs, *kept, *cwd, *env, *folder = NULL;
    PyObject *argv_texts = NULL, *program_texts = NULL, *env_texts = NULL;
    PyObject *result = NULL;
    int close_fds, restores, sets_session;
    child_plan plan = {0};
    if (!PyArg_ParseTuple(args, "OOpO!OOiiiiiiiippi:fork_exec", &argv,
                          &programs, &close_fds, &PyTuple_Type, &kept, &cwd,
                          &env, &plan.p2cread, &plan.p2cwrite, &plan.c2pread,
                          &plan.c2pwrite, &plan.errread, &plan.errwrite,
                          &plan.report_read, &plan.report, &restores,
                          &sets_session, &plan.umask))
        return NULL;
    plan.close_fds = close_fds;
    plan.restore_signals = restores;
    plan.call_setsid = sets_session;
    if (close_fds && plan.report < 3)
        return PyErr_Format(PyExc_ValueError, "errpipe_write must be >= 3");
    if ((plan.kept = numbers(kept, &plan.kept_count)) == NULL ||
        (plan.programs = texts(programs, &program_texts)) == NULL ||
        (plan.argv = texts(argv, &argv_texts)) == NULL ||
        (env != Py_None && (plan.env = texts(env, &env_texts)) == NULL) ||
        (cwd != Py_None && !PyUnicode_FSConverter(cwd, &folder)))
        goto done;
    plan.cwd = folder == NULL ? NULL : PyBytes_AS_STRING(folder);
    pid_t pid = start_blocked(&plan);
    if (pid < 0) {
        errno = -pid;
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    result = PyLong_FromLong(pid);
done:
    PyMem_Free(plan.kept);
    PyMem_Free(plan.programs);
    PyMem_Free(plan.argv);
    PyMem_Free(plan.env);
    Py_XDECREF(program_texts);
    Py_XDECREF(argv_texts);
    Py_XDECREF(env_texts);
    Py_XDECREF(folder);
    return result;
}

PyMethodDef cl_spawn_methods[] = {
    {"fork_exec", fork_exec, METH_VARARGS, fork_exec_doc}, {NULL}};

#else

PyMethodDef cl_spawn_methods[] = {{NULL}};

#endif
