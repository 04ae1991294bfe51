/* spawn.h - starting a child by vfork(), for Pythons whose subprocess forks.
 *
 * A fork copies the tables of the parent's memory; vfork() lends the memory to
 * the child until that calls exec(), and the parent's thread waits. From 3.10
 * on, subprocess does so itself.
 *
 * The rules of what runs between the two: the child is a thread of its own in
 * the parent's memory, with its own descriptors and signal handlers. It makes
 * system calls only, allocates nothing, takes no lock, and changes only its
 * own stack. All signals are blocked in the parent's thread before, so no
 * handler of Python's runs in the child; the child sets those to the default
 * before it lets signals in again. */
#ifndef CL_SPAWN_H
#define CL_SPAWN_H

#include "base/compat.h"

/* fork_exec(), with the first sixteen arguments of
 * _posixsubprocess.fork_exec() of 3.8, and the umask or -1. */
extern PyMethodDef cl_spawn_methods[];

#endif
