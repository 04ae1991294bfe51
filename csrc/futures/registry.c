/* registry.c - see registry.h. */
#include "futures/registry.h"

#include "core/abi.h"
#include "core/args.h"
#include "core/fork.h"

#include <unistd.h>

#if CL_HAS_AWAITED_BY

/* ------------------------------------------------------------ the thread state */

int
cl_registry_setup(cl_state *Py_UNUSED(st))
{
    return 0;
}


static inline cl_list_node *
task_list(const cl_state *st, PyThreadState *thread)
{
    return (cl_list_node *)((char *)thread +
                            cl_futures_of(st)->task_list_offset);
}

/* The slots are among the words before the list. */
#define SLOTS_SEARCHED 8

/* Returns the offset of the slot that holds the object, or 0. */
static size_t
find_slot(const cl_state *st, PyThreadState *thread, PyObject *object)
{
    for (size_t n = 1; n <= SLOTS_SEARCHED; n++) {
        size_t offset =
            cl_futures_of(st)->task_list_offset - n * sizeof(PyObject *);
        if (*cl_registry_slot(thread, offset) == object)
            return offset;
    }
    return 0;
}

/* Finds the slots that change when the loop is set as the running one and the
 * task is entered. Returns 1 if found, 0 if not, -1 on error. */
static int
find_by_change(cl_state *st, PyObject *task, PyObject *loop)
{
    cl_futures *futures = cl_futures_of(st);
    PyThreadState *thread = PyThreadState_Get();
    if (cl_call_void(futures->set_running_loop, Py_None, NULL) < 0)
        return -1;
    if (find_slot(st, thread, loop) || find_slot(st, thread, task))
        return 0;
    if (cl_call_void(futures->set_running_loop, loop, NULL) < 0)
        return -1;
    futures->running_loop_offset = find_slot(st, thread, loop);
    if (cl_call_void(futures->enter_task, loop, task) < 0)
        return -1;
    futures->running_task_offset = find_slot(st, thread, task);
    if (cl_call_void(futures->leave_task, loop, task) < 0 ||
        cl_call_void(futures->set_running_loop, Py_None, NULL) < 0)
        return -1;
    return futures->running_loop_offset != 0 &&
           futures->running_task_offset != 0 &&
           *cl_registry_slot(thread, futures->running_loop_offset) == NULL &&
           *cl_registry_slot(thread, futures->running_task_offset) == NULL;
}

int
cl_registry_find_slots(cl_state *st, PyObject *first, PyObject *second,
                       PyObject *loop)
{
    cl_list_node *before = &((TaskObject *)first)->t_node;
    cl_list_node *node = &((TaskObject *)second)->t_node;
    PyThreadState *thread = PyThreadState_Get();

    /* Compares addresses only: a pointer is followed once it is known to be a
     * node. */
    if (node->prev != before || before->next != node)
        return 0;
    /* The last task created is the last node. The list's head follows it, and
     * lies in the thread state, after the public PyThreadState. */
    ptrdiff_t offset = (char *)node->next - (char *)thread;
    if (offset < (ptrdiff_t)sizeof(PyThreadState) || offset > 65536 ||
        offset % (ptrdiff_t)sizeof(PyObject *) != 0 ||
        node->next->prev != node)
        return 0;
    cl_futures_of(st)->task_list_offset = (size_t)offset;
    return find_by_change(st, second, loop);
}

int
cl_registry_enter(cl_state *st, PyObject *loop, LoopObject *Py_UNUSED(ours),
                  PyObject *task)
{
    return cl_registry_set(st, PyThreadState_Get(), loop, task)
               ? 0
               : cl_call_void(cl_futures_of(st)->enter_task, loop, task);
}

/* The slow path. After a fork within the step, asyncio knows neither the loop
 * nor the task. */
static int
leave(cl_state *st, PyObject *loop, PyObject *task, PyObject *current)
{
    LoopObject *ours = cl_loop_cast(loop);
    if (ours != NULL && ours->l_forked && current == NULL)
        return cl_fork_mark_running(ours);
    return cl_call_void(cl_futures_of(st)->leave_task, loop, task);
}

int
cl_registry_leave(cl_state *st, PyObject *loop, LoopObject *Py_UNUSED(ours),
                  PyObject *task)
{
    PyThreadState *thread = PyThreadState_Get();
    return cl_registry_unset(st, thread, loop, task)
               ? 0
               : leave(st, loop, task,
                       *cl_registry_slot(
                           thread, cl_futures_of(st)->running_task_offset));
}

PyObject *
cl_registry_running_loop(cl_state *st)
{
    PyObject *loop = *cl_registry_slot(PyThreadState_Get(),
                                       cl_futures_of(st)->running_loop_offset);
    return loop == Py_None ? NULL : Py_XNewRef(loop);
}

PyObject *
cl_registry_current_task(cl_state *st, LoopObject *loop)
{
    PyThreadState *thread = PyThreadState_Get();
    return *cl_registry_slot(thread, cl_futures_of(st)->running_loop_offset) ==
                   (PyObject *)loop
               ? *cl_registry_slot(thread,
                                   cl_futures_of(st)->running_task_offset)
               : NULL;
}

void
cl_registry_forked(LoopObject *loop)
{
    cl_futures_on(loop)->in_task = false;
}

#ifdef CL_DEBUG
/* The node is in no list, or its neighbours point to it. In the child of a fork
 * CPython has emptied the list, and left the nodes as they were. */
static void
check_node(const cl_state *st, const cl_list_node *node)
{
    if (st->ancestor_count > 0)
        return;
    cl_assert((node->next == NULL) == (node->prev == NULL));
    cl_assert(node->next == NULL || node->next->prev == node);
    cl_assert(node->prev == NULL || node->prev->next == node);
}
#endif

int
cl_registry_add(cl_state *st, TaskObject *task)
{
    cl_list_node *node = &task->t_node;
    cl_check(check_node(st, node));
    if (node->next != NULL)
        return 0;
    cl_list_node *head = task_list(st, PyThreadState_Get());
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
    cl_check(check_node(st, node));
    return 0;
}

void
cl_registry_remove(cl_state *st, TaskObject *task)
{
    cl_list_node *node = &task->t_node;
    (void)st;
    cl_check(check_node(st, node));
    if (node->next == NULL)
        return;
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = NULL;
}

#else

/* ------------------------------------------------------- the dict and the WeakSet */

int
cl_registry_setup(cl_state *st)
{
    PyObject *all = PyObject_GetAttrString(cl_futures_of(st)->tasks_module,
                                           CL_ALL_TASKS_NAME);
    if (all == NULL ||
        (cl_futures_of(st)->all_tasks = PyObject_GetAttrString(all, "data")) ==
            NULL ||
        (cl_futures_of(st)->all_tasks_iterating =
             PyObject_GetAttrString(all, "_iterating")) == NULL ||
        (cl_futures_of(st)->all_tasks_removals =
             PyObject_GetAttrString(all, "_pending_removals")) == NULL ||
        (cl_futures_of(st)->current_tasks = PyObject_GetAttrString(
             cl_futures_of(st)->tasks_module, "_current_tasks")) == NULL) {
        cl_futures_of(st)->layouts_fit = false;
        Py_XDECREF(all);
        return cl_abi_lacks("futures");
    }
    Py_DECREF(all);
    if (!PyAnySet_Check(cl_futures_of(st)->all_tasks) ||
        !PyAnySet_Check(cl_futures_of(st)->all_tasks_iterating) ||
        !PyList_Check(cl_futures_of(st)->all_tasks_removals) ||
        !PyDict_Check(cl_futures_of(st)->current_tasks)) {
        cl_futures_of(st)->layouts_fit = false;
        PyErr_SetString(PyExc_TypeError,
                        "asyncio.tasks keeps its tasks in other types");
        return cl_abi_lacks("futures");
    }
    return 0;
}

#if CL_HAS_RUNNING_LOOP_HOLDER

/* Returns the object in which asyncio keeps the running loop, borrowed. NULL
 * if it does not have the expected size, or on error with an exception. */
static cl_running_loop_holder *
find_holder(cl_state *st)
{
    PyObject *dict = PyThreadState_GetDict();
    PyObject *kept =
        dict == NULL
            ? NULL
            : PyDict_GetItemWithError(
                  dict, cl_futures_of(st)->str___asyncio_running_event_loop__);
    return kept != NULL && Py_TYPE(kept)->tp_basicsize ==
                               sizeof(cl_running_loop_holder)
               ? (cl_running_loop_holder *)kept
               : NULL;
}

#endif

int
cl_registry_find_slots(cl_state *st, PyObject *Py_UNUSED(first),
                       PyObject *Py_UNUSED(second), PyObject *loop)
{
#if CL_HAS_RUNNING_LOOP_HOLDER
    cl_running_loop_holder *holder = find_holder(st);
    if (holder == NULL)
        return PyErr_Occurred() ? -1 : 0;
    return holder->rl_loop == loop && holder->rl_pid == (int)getpid();
#else
    (void)st;
    (void)loop;
    return 1;
#endif
}

/* Sets the entry to None before other code can see it; see registry.h. */
static void
rest(LoopObject *loop)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    cl_futures_on(loop)->task_entry = Py_None;
    loop->l_rest = NULL;
    if (PyDict_SetItem(cl_futures_of(loop->l_st)->current_tasks,
                       (PyObject *)loop, Py_None) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

/* Removes the entry. */
static void
forget(LoopObject *loop)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    cl_futures_on(loop)->task_entry = NULL;
    loop->l_rest = loop->l_forget = NULL;
    /* asyncio's _swap_current_task() may have removed it. */
    if (PyDict_DelItem(cl_futures_of(loop->l_st)->current_tasks,
                       (PyObject *)loop) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

void
cl_registry_forked(LoopObject *loop)
{
    cl_futures_on(loop)->in_task = false;
    if (cl_futures_on(loop)->task_entry != NULL)
        forget(loop);
}

int
cl_registry_enter(cl_state *st, PyObject *loop, LoopObject *ours,
                  PyObject *task)
{
    cl_futures *futures = cl_futures_of(st);
    cl_assert_of(task, ours == NULL || (PyObject *)ours == loop);
    cl_assert_of(task, ours == NULL || !cl_futures_on(ours)->in_task);
    if (ours == NULL)
        return cl_call_void(futures->enter_task, loop, task);
    cl_loop_futures *on = cl_futures_on(ours);
    if (on->task_entry == NULL) {
        PyObject *current =
            PyDict_GetItemWithError(futures->current_tasks, loop);
        if (current != NULL)
            return cl_call_void(futures->enter_task, loop, task);
        if (PyErr_Occurred())
            return -1;
    }
    if (on->task_entry != task) {
        if (PyDict_SetItem(futures->current_tasks, loop, task) < 0)
            return -1;
        on->task_entry = task;
    }
    on->in_task = true;
    on->tasks_version = cl_dict_version(futures->current_tasks);
    ours->l_rest = ours->l_forget = NULL;
    return 0;
}

/* Whether nobody has changed the dict since the step began; false if that is
 * not known. */
static inline bool
is_unchanged(const cl_loop_futures *on, PyObject *tasks)
{
    uint64_t version = cl_dict_version(tasks);
    return version != 0 && version == on->tasks_version;
}

/* Whether the task has been left meanwhile, by asyncio's _leave_task(): 1, 0,
 * -1. After a fork it has no entry. */
static inline int
was_left(const cl_state *st, const cl_loop_futures *on, PyObject *loop,
         PyObject *task)
{
    PyObject *tasks = cl_futures_of(st)->current_tasks;
    if (on->task_entry == NULL || is_unchanged(on, tasks))
        return 0;
    PyObject *current = PyDict_GetItemWithError(tasks, loop);
    return current == NULL && PyErr_Occurred() ? -1 : current != task;
}

int
cl_registry_leave(cl_state *st, PyObject *loop, LoopObject *ours,
                  PyObject *task)
{
    if (ours == NULL)
        return cl_call_void(cl_futures_of(st)->leave_task, loop, task);
    cl_loop_futures *on = cl_futures_on(ours);
    cl_assert_of(task, on->in_task || ours->l_forked);
    on->in_task = false;
    int left = was_left(st, on, loop, task);
    if (left != 0) {
        on->task_entry = NULL;
        ours->l_rest = ours->l_forget = NULL;
        return left < 0
                   ? -1
                   : cl_call_void(cl_futures_of(st)->leave_task, loop, task);
    }
    /* A finished task must not be kept alive. The references that are known
     * are the caller's, and that of the dict. */
    if (((TaskObject *)task)->f_state != CL_PENDING && Py_REFCNT(task) <= 3) {
        ours->l_forget = forget;
        if (PyDict_SetItem(cl_futures_of(st)->current_tasks, loop, Py_None) <
            0) {
            ours->l_rest = rest;
            return -1;
        }
        on->task_entry = Py_None;
    }
    else if (on->task_entry != NULL) { /* NULL after a fork */
        ours->l_rest = rest;
        ours->l_forget = forget;
    }
    return 0;
}

PyObject *
cl_registry_running_loop(cl_state *st)
{
#if CL_HAS_RUNNING_LOOP_HOLDER
    /* asyncio's function calls getpid() each time. */
    cl_futures *futures = cl_futures_of(st);
    PyObject *dict = PyThreadState_GetDict();
    cl_running_loop_holder *holder = NULL;
    if (dict != NULL &&
        cl_dict_version(dict) == futures->running_loop_version) {
        holder = futures->running_loop_holder;
    }
    else if (dict != NULL) {
        holder = (cl_running_loop_holder *)PyDict_GetItemWithError(
            dict, futures->str___asyncio_running_event_loop__);
        futures->running_loop_holder = holder;
        futures->running_loop_version =
            holder == NULL ? 0 : cl_dict_version(dict);
    }
    if (holder == NULL || holder->rl_loop == NULL ||
        holder->rl_loop == Py_None || holder->rl_pid != (int)st->pid)
        return NULL;
    return Py_NewRef(holder->rl_loop);
#else
    PyObject *loop = PyObject_CallNoArgs(cl_futures_of(st)->get_running_loop);
    if (loop == Py_None)
        Py_CLEAR(loop);
    return loop;
#endif
}

PyObject *
cl_registry_current_task(cl_state *st, LoopObject *loop)
{
    const cl_loop_futures *on = cl_futures_on(loop);
    PyObject *tasks = cl_futures_of(st)->current_tasks;
    if (!on->in_task)
        return NULL;
    if (is_unchanged(on, tasks))
        return on->task_entry;
    /* A task that starts eagerly within the step is the current one. */
    PyObject *task = PyDict_GetItemWithError(tasks, (PyObject *)loop);
    if (task == NULL)
        PyErr_Clear();
    return task == Py_None ? NULL : task;
}

int
cl_registry_add(cl_state *st, TaskObject *task)
{
    /* No callback, unlike WeakSet.add(): the task removes the reference
     * itself. */
    cl_assert_gil();
    cl_assert_of(task, Py_REFCNT(task) > 0);
    PyObject *reference = PyWeakref_NewRef((PyObject *)task, NULL);
    if (reference == NULL)
        return -1;
    /* The reference has no callback, so it cannot be part of a cycle. */
    PyObject_GC_UnTrack(reference);
    int status = PySet_Add(cl_futures_of(st)->all_tasks, reference);
    Py_DECREF(reference);
    return status;
}

/* The garbage collector clears the weak reference to a task before it frees
 * the task, which then cannot find it in the set. Dead references are removed
 * once there are many. */
static void
note_lost(cl_state *st)
{
    cl_futures *futures = cl_futures_of(st);
    PyObject *type, *value, *traceback;
    if (++futures->lost_tasks < 32 ||
        futures->lost_tasks < PySet_GET_SIZE(futures->all_tasks) / 2 ||
        PySet_GET_SIZE(futures->all_tasks_iterating) > 0 ||
        PyList_GET_SIZE(futures->all_tasks_removals) > 0)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *all = PySequence_List(futures->all_tasks);
    for (Py_ssize_t i = 0; all != NULL && i < PyList_GET_SIZE(all); i++) {
        PyObject *reference = PyList_GET_ITEM(all, i);
        if (PyWeakref_Check(reference) && cl_weakref_is_dead(reference) &&
            PySet_Discard(futures->all_tasks, reference) < 0)
            Py_CLEAR(all);
    }
    if (all == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(all);
    futures->lost_tasks = 0;
    PyErr_Restore(type, value, traceback);
}

/* Appends the reference only once, because the WeakSet subtracts the length of
 * the list from its own. A pending task is not in the list yet. One that is
 * freed was mostly appended shortly before, so the search starts at the end.
 */
static int
remove_later(cl_state *st, TaskObject *task, PyObject *reference)
{
    PyObject *list = cl_futures_of(st)->all_tasks_removals;
    Py_ssize_t i = task->f_state == CL_PENDING ? 0 : PyList_GET_SIZE(list);
    while (i-- > 0) {
        if (PyList_GET_ITEM(list, i) == reference)
            return 0;
    }
    return PyList_Append(list, reference);
}

void
cl_registry_remove(cl_state *st, TaskObject *task)
{
    PyObject *type, *value, *traceback;
    PyObject *reference = cl_plain_weakref((PyObject *)task);
    if (reference == NULL) {
        if (task->f_state == CL_PENDING || CL_LISTS_DONE_TASKS)
            note_lost(st);
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    int status;
    if (PySet_GET_SIZE(cl_futures_of(st)->all_tasks_iterating) == 0)
        status = PySet_Discard(cl_futures_of(st)->all_tasks, reference);
    else /* The set must not change while it is iterated. */
        status = remove_later(st, task, reference);
    Py_DECREF(reference);
    if (status < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
}

#endif
