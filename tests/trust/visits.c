/* Remembers which basic blocks of the extension ran: with -fsanitize-coverage=trace-pc, gcc calls the function below at
 * the start of each. The memory is a file in the folder CLOOP_VISITS, so what a process did is known even if it is
 * killed. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static unsigned char *visited;

void __sanitizer_cov_trace_pc(void);

void
__sanitizer_cov_trace_pc(void)
{
    uintptr_t offset =
        (uintptr_t)__builtin_return_address(0) - (uintptr_t)__ehdr_start;
    if (visited != NULL)
        visited[offset >> 2] = 1; /* no call is as short as 4 bytes */
}

__attribute__((constructor)) static void
begin(void)
{
    char path[4096];
    const char *folder = getenv("CLOOP_VISITS");
    size_t size = (size_t)(etext - __ehdr_start) >> 2;
    if (folder == NULL)
        return;
    snprintf(path, sizeof(path), "%s/%ld", folder, (long)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (ftruncate(fd, (off_t)size + 1) == 0) {
        void *map =
            mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        visited = map == MAP_FAILED ? NULL : map;
    }
    close(fd);
}
