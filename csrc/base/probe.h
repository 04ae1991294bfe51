/* probe.h - static tracepoints (USDT), by which bpftrace, perf or SystemTap see
 * a loop in a running process: docs/eyes.md lists them.
 *
 * Only if setup.py has found <sys/sdt.h>, and defined CL_USDT. Each is one nop
 * then, and a note in the file that says where it is and where its arguments
 * are; so arguments must be at hand, not computed for it. Otherwise it is
 * nothing. */
#ifndef CL_BASE_PROBE_H
#define CL_BASE_PROBE_H

#ifdef CL_USDT
#include <sys/sdt.h>
#define CL_PROBE1(name, a) DTRACE_PROBE1(cloop, name, a)
#define CL_PROBE2(name, a, b) DTRACE_PROBE2(cloop, name, a, b)
#define CL_PROBE3(name, a, b, c) DTRACE_PROBE3(cloop, name, a, b, c)
#else
#define CL_PROBE1(name, a) ((void)0)
#define CL_PROBE2(name, a, b) ((void)0)
#define CL_PROBE3(name, a, b, c) ((void)0)
#endif

#endif
