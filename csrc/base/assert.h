/* assert.h - contracts that builds for finding faults check, and others do not contain.
 *
 * CL_DEBUG: the builds debug, asan and stress. A contract that does not hold is a fault of
 * cloop's own, whatever a program does: it is printed, and the process ends by abort().
 *
 * A structure has a checker, cl_NAME_check(), which looks at all of it and exists in these
 * builds alone. It is called where the structure must be whole: cl_check() calls it in
 * each of them, and is for what takes a few instructions; cl_check_stress() in stress
 * builds, after each operation. Whatever else a loop has is looked at between its turns
 * (core/check.h). */
#ifndef CL_BASE_ASSERT_H
#define CL_BASE_ASSERT_H

#ifdef CL_DEBUG

/* Prints the expression, the place and, unless `format` is NULL, what it is about; then
 * abort(). */
__attribute__((noreturn, cold, format(printf, 5, 6))) void
cl_assert_failed(const char *expression, const char *file, int line,
                 const char *function, const char *format, ...);

#define cl_assert(condition) \
    ((condition) \
         ? (void)0 \
         : cl_assert_failed(#condition, __FILE__, __LINE__, __func__, NULL))

/* The same with what it is about, as for printf(). */
#define cl_assertf(condition, ...) \
    ((condition) ? (void)0 \
                 : cl_assert_failed(#condition, __FILE__, __LINE__, __func__, \
                                    __VA_ARGS__))

#define cl_check(call) (call)

#else

#define cl_assert(condition) ((void)0)
#define cl_assertf(condition, ...) ((void)0)
#define cl_check(call) ((void)0)

#endif

/* Stress builds: see "Builds" in docs/testing.md. */
#ifdef CL_STRESS
#define cl_check_stress(call) (call)
#define CL_TINY(tiny, normal) (tiny)
#else
#define cl_check_stress(call) ((void)0)
#define CL_TINY(tiny, normal) (normal)
#endif

#endif
