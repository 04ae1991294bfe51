/* assert.h - assertions, in debug, asan and stress builds only (CL_DEBUG), and
 * what else depends on the build.
 *
 * A failed assertion is a bug in cloop, whatever the program does: it is
 * printed, and the process aborts.
 *
 * A structure has a checker, cl_NAME_check(), which checks all of it. It is
 * called where the structure must be consistent: through cl_check() in all
 * these builds, if it takes a few instructions; through cl_check_stress()
 * after each operation of a stress build. The rest of a loop is checked
 * between its turns (core/check.h). */
#ifndef CL_BASE_ASSERT_H
#define CL_BASE_ASSERT_H

#ifdef CL_DEBUG

/* Prints the expression, the place and, unless `format` is NULL, the details;
 * then aborts. */
__attribute__((noreturn, cold, format(printf, 5, 6))) void
cl_assert_failed(const char *expression, const char *file, int line,
                 const char *function, const char *format, ...);

#define cl_assert(condition) \
    ((condition) \
         ? (void)0 \
         : cl_assert_failed(#condition, __FILE__, __LINE__, __func__, NULL))

/* The same with details, as for printf(). */
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

/* How a function is declared that is compiled into each place that calls it:
 * not in coverage builds, where its conditions would count anew in each. */
#ifdef CL_COVERAGE
#define CL_INLINED inline
#else
#define CL_INLINED inline __attribute__((always_inline))
#endif

#endif
