/* count.h - included first in every source of a build that is to be counted.
 *
 * Some decisions of the loop ask the time-stamp counter how long something took,
 * and under valgrind everything takes fifty times as long. Here the counter
 * counts how often it was read: callbacks are quick, and equally so each time.
 * It takes as many instructions as the real one. */
#if defined(__x86_64__) && !defined(__builtin_ia32_rdtsc)
__attribute__((weak, visibility("hidden"))) unsigned long long counted_ticks;

static inline unsigned long long
counted_rdtsc(void)
{
    return counted_ticks += 20;
}

#define __builtin_ia32_rdtsc() counted_rdtsc()
#endif

/* A thread looks after held writes, 200 times in a second of the real clock: a second has
 * fifty times fewer operations here. */
#define CL_HOLD_LOOK_NS 900000000
