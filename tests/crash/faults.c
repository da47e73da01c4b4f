/* Preloaded into the server by tests/crash: makes the disk fail while a switch file exists.
 *
 * FAULT_SWITCHES names a folder. While it holds the file "sync", fsync and fdatasync fail with EIO, while it holds
 * "folder", they do so for folders alone; while it holds "full", whatever would write fails with ENOSPC. Only files below FAULT_ROOT are touched, so that the log and the
 * sockets live on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int switched(const char *name)
{
    char path[PATH_MAX];
    const char *folder = getenv("FAULT_SWITCHES");
    if (!folder || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    return access(path, F_OK) == 0;
}

static int below_root(int file)
{
    char link[64], path[PATH_MAX];
    const char *root = getenv("FAULT_ROOT");
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = root ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0)
        return 0;
    path[length] = '\0';
    return strncmp(path, root, strlen(root)) == 0;
}

static int fails(const char *name, int file, int error)
{
    int before = errno, failing = switched(name) && below_root(file);
    errno = failing ? error : before;
    return failing;
}

static int sync_fails(int file)
{
    struct stat about;
    if (fails("sync", file, EIO))
        return 1;
    return fstat(file, &about) == 0 && S_ISDIR(about.st_mode) && fails("folder", file, EIO);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int fsync(int file)
{
    REAL(int, "fsync", int);
    return sync_fails(file) ? -1 : real(file);
}

int fdatasync(int file)
{
    REAL(int, "fdatasync", int);
    return sync_fails(file) ? -1 : real(file);
}

ssize_t write(int file, const void *bytes, size_t count)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return fails("full", file, ENOSPC) ? -1 : real(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t place)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fails("full", file, ENOSPC) ? -1 : real(file, bytes, count, place);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t place)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails("full", file, ENOSPC) ? -1 : real(file, bytes, count, place);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return fails("full", file, ENOSPC) ? -1 : real(file, parts, count);
}
