/* A disk that fails when it is told to: preloaded, it stands before the calls that change files below one folder.
 *
 * Every such call is counted. From the one numbered `first` on (or that one alone), those whose bit is in `kinds`
 * fail with `error`; with error 0, writes are short: they take half of what they are given.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, SYNC = 4, MOVE = 8, REMOVE = 16 };

static char root[PATH_MAX];
static long first, count;
static int error_number, failing_kinds, only_one;

/* Fail as told below; with an empty folder, nothing does. The calls that were counted since the last time. */
long fail_disk(const char *folder, long at, int error, int kinds, int once) {
    long counted = count;
    snprintf(root, sizeof root, "%s", folder);
    first = at, error_number = error, failing_kinds = kinds, only_one = once;
    count = 0;
    return counted;
}

static int is_below(const char *path) {
    size_t length = strlen(root);
    return length && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int is_hit(int kind, const char *path) {
    if (!is_below(path)) return 0;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    return first && (failing_kinds & kind) && (only_one ? number == first : number >= first);
}

static int fails(int kind, const char *path) {
    if (!is_hit(kind, path) || !error_number) return 0;
    errno = error_number;
    return 1;
}

static const char *path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        va_list more;                                                                  \
        va_start(more, flags);                                                         \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                      \
        va_end(more);                                                                  \
        if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) && fails(CREATE, path)) return -1; \
        return REAL(name, path, flags, mode);                                          \
    }
OPEN(open)
OPEN(open64)

#define WRITES(name, before, ...)                                          \
    ssize_t name(int descriptor, const void *bytes, size_t n before) {     \
        char path[PATH_MAX];                                               \
        if (is_hit(WRITE, path_of(descriptor, path))) {                    \
            if (error_number) {                                            \
                errno = error_number;                                      \
                return -1;                                                 \
            }                                                              \
            n = n > 1 ? n / 2 : n;                                         \
        }                                                                  \
        return REAL(name, descriptor, bytes, n __VA_OPT__(, ) __VA_ARGS__); \
    }
#define NOTHING
#define OFFSET , off_t offset
WRITES(write, NOTHING)
WRITES(pwrite, OFFSET, offset)
WRITES(pwrite64, OFFSET, offset)

#define ON_DESCRIPTOR(name)                                            \
    int name(int descriptor) {                                         \
        char path[PATH_MAX];                                           \
        if (fails(SYNC, path_of(descriptor, path))) return -1;         \
        return REAL(name, descriptor);                                 \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

int mkdir(const char *path, mode_t mode) { return fails(CREATE, path) ? -1 : REAL(mkdir, path, mode); }
int rename(const char *from, const char *to) { return fails(MOVE, to) ? -1 : REAL(rename, from, to); }
int unlink(const char *path) { return fails(REMOVE, path) ? -1 : REAL(unlink, path); }
int rmdir(const char *path) { return fails(REMOVE, path) ? -1 : REAL(rmdir, path); }

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    return fails(MOVE, to) ? -1 : REAL(renameat2, from_folder, from, to_folder, to, flags);
}

int unlinkat(int folder, const char *name, int flags) {
    char path[2 * PATH_MAX], parent[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder == AT_FDCWD ? "" : path_of(folder, parent), name);
    return fails(REMOVE, name[0] == '/' ? name : path) ? -1 : REAL(unlinkat, folder, name, flags);
}
