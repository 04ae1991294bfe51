/* sys/event.h - what kqueue.c of the model has of the header that macOS and
 * FreeBSD have, with FreeBSD's numbers. */
#ifndef TESTS_C_MODEL_SYS_EVENT_H
#define TESTS_C_MODEL_SYS_EVENT_H

#include <stdint.h>
#include <time.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
    intptr_t data;
    void *udata;
};

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_PROC (-5)
#define EVFILT_USER (-11)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define NOTE_EXIT 0x80000000u
#define NOTE_TRIGGER 0x01000000u

#define EV_SET(event, ident_, filter_, flags_, fflags_, data_, udata_) \
    (*(event) = (struct kevent){.ident = (ident_), \
                                .filter = (filter_), \
                                .flags = (flags_), \
                                .fflags = (fflags_), \
                                .data = (data_), \
                                .udata = (udata_)})

int kqueue(void);
int kevent(int queue, const struct kevent *changes, int change_count,
           struct kevent *events, int event_count,
           const struct timespec *timeout);

#endif
