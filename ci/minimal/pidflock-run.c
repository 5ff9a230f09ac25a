/* Only the `pidflock run` part of the command: take the name, write the PID, become COMMAND.
 * For ci/footprint: what the protocol costs in C, without subcommands, options, messages and waiting. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int same(int directory, const char *name, const struct stat *file)
{
    struct stat now;
    if (fstatat(directory, name, &now, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -1;
    return now.st_dev == file->st_dev && now.st_ino == file->st_ino;
}

int main(int count, char **arguments)
{
    static char path[4096];
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    if (count < 3 || strlen(arguments[1]) >= sizeof path)
        return 64;
    strcpy(path, arguments[1]);
    char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) > 255)
        return 64;
    char first = *name;
    if (slash)
        *(char *)name = 0;
    int directory = open(slash ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *(char *)name = first;
    if (directory < 0)
        return 71;
    for (int turn = 0; turn < 100; turn++) {
        struct stat status;
        int file = openat(directory, name, flags, 0644);
        if (file < 0)
            return 71;
        if (file < 3 && (file = fcntl(file, F_DUPFD_CLOEXEC, 3)) < 0)
            return 71;
        if (flock(file, LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK ? 75 : 71;
        if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink > 1)
            return 71;
        int current = same(directory, name, &status);
        if (current < 0)
            return 71;
        if (!current) {
            close(file);
            continue;
        }
        char text[32];
        memset(text, '\n', sizeof text);
        size_t digits = 0, length;
        for (int rest = getpid(); rest; rest /= 10)
            digits++;
        for (int rest = getpid(), at = digits; rest; rest /= 10)
            text[--at] = '0' + rest % 10;
        length = digits + 1;
        if (status.st_size > (off_t)sizeof text && (status.st_size = 0, ftruncate(file, 0) != 0))
            return 71;
        size_t write = status.st_size > (off_t)length ? (size_t)status.st_size : length;
        if (pwrite(file, text, write, 0) != (ssize_t)write) {
            unlinkat(directory, name, 0);
            return 71;
        }
        if ((write > length && ftruncate(file, length) != 0) || fsync(file) != 0 || fcntl(file, F_SETFD, 0) != 0)
            return 71;
        execvp(arguments[2], arguments + 2);
        int code = errno == ENOENT ? 127 : 126;
        if (same(directory, name, &status) == 1)
            unlinkat(directory, name, 0);
        return code;
    }
    return 71;
}
