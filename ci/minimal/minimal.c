/* src/main.rs of this directory in C, with the library's part: the same calls, the same checks, the same answers to
 * errors, as far as `PidLock::acquire` and `release` can come to them. For ci/footprint. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 100, CLAIM = 64, OVERWRITE = 32, HELD = 1000, HELD_BY, INVALID, NOT_A_PID_FILE, REPLACED };

#define READ_WRITE (O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define DIRECTORY (O_PATH | O_DIRECTORY | O_CLOEXEC)

/* Errors are errno, or one of the numbers above; functions return 0 or an error, or -1 and leave it in `wrong`. */
static int wrong;

struct lock {
    int directory, file;
    char name[256];
    dev_t device;
    ino_t inode;
    pid_t stamped;
};

static int open_at(int directory, const char *name, int flags, mode_t mode)
{
    int fd;
    while ((fd = openat(directory, name, flags, mode)) < 0 && errno == EINTR)
        ;
    if (fd < 0)
        wrong = errno;
    return fd;
}

static int above_standard_streams(int fd)
{
    int moved;
    if (fd < 0 || fd > 2)
        return fd;
    while ((moved = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0 && errno == EINTR)
        ;
    if (moved < 0)
        wrong = errno;
    close(fd);
    return moved;
}

static int lock_file(int fd, int operation)
{
    while (flock(fd, operation) != 0)
        if (errno != EINTR)
            return wrong = errno;
    return 0;
}

static int truncate_file(int fd, off_t size)
{
    while (ftruncate(fd, size) != 0)
        if (errno != EINTR)
            return wrong = errno;
    return 0;
}

/* Whether the name leads to this file; -1 is an error. */
static int names(const struct lock *lock, dev_t device, ino_t inode)
{
    struct stat now;
    while (fstatat(lock->directory, lock->name, &now, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != EINTR)
            return wrong = errno, -1;
    }
    return now.st_dev == device && now.st_ino == inode;
}

static int identify(const struct lock *lock, int fd, struct stat *status)
{
    while (fstat(fd, status) != 0)
        if (errno != EINTR)
            return wrong = errno, -1;
    if (!S_ISREG(status->st_mode))
        return wrong = NOT_A_PID_FILE, -1;
    return names(lock, status->st_dev, status->st_ino);
}

static int remove_name(const struct lock *lock, dev_t device, ino_t inode)
{
    int current = names(lock, device, inode);
    if (current <= 0)
        return current ? wrong : 0;
    while (unlinkat(lock->directory, lock->name, 0) != 0)
        if (errno != EINTR)
            return errno == ENOENT ? 0 : (wrong = errno);
    return 0;
}

/* The claim in a file: 0 is none, -1 an error. */
static int claim(int fd)
{
    char text[CLAIM];
    ssize_t size;
    while ((size = pread(fd, text, sizeof text, 0)) < 0)
        if (errno != EINTR)
            return wrong = errno, -1;
    int64_t number = 0;
    ssize_t at = 0, digits;
    while (at < size && (text[at] == ' ' || text[at] == '\t'))
        at++;
    for (digits = 0; at < size && text[at] >= '0' && text[at] <= '9'; at++, digits++)
        if ((number = number * 10 + text[at] - '0') > INT32_MAX)
            return 0;
    while (at < size && (text[at] == ' ' || text[at] == '\t'))
        at++;
    if (digits == 0 || (at < size ? text[at] != '\n' : size == CLAIM))
        return 0;
    return (int)number;
}

/* Whether the file names a living process. */
static int has_holder(int fd)
{
    int pid = claim(fd);
    if (pid <= 0)
        return 0;
    int pidfd;
    while ((pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) < 0 && errno == EINTR)
        ;
    if (pidfd < 0) {
        if (errno != ENOSYS && errno != EPERM)
            return 0;
        while (kill(pid, 0) != 0)
            if (errno != EINTR)
                return errno != ESRCH;
        return 1;
    }
    struct pollfd entry = { .fd = pidfd, .events = POLLIN };
    struct timespec now = { 0 };
    int dead = ppoll(&entry, 1, &now, NULL) == 1;
    close(pidfd);
    return !dead;
}

/* 1: a shared lock is possible; 0: it is not; -1: an error. */
static int is_free(int fd)
{
    if (lock_file(fd, LOCK_SH | LOCK_NB) != 0)
        return wrong == EWOULDBLOCK ? 0 : -1;
    return lock_file(fd, LOCK_UN) == 0 ? 1 : -1;
}

/* The progress so far, as `Patience`. */
struct patience {
    unsigned looks, turns;
};

static void pause_once(struct patience *patience)
{
    unsigned doublings = patience->looks < 6 ? patience->looks : 6;
    struct timespec pause = { .tv_nsec = 48000L << doublings };
    nanosleep(&pause, NULL);
    patience->looks++;
}

/* 0: locked, and the name leads to it; or an error, REPLACED if the name does not. */
static int contend(const struct lock *lock, int fd, struct stat *status, struct patience *patience)
{
    for (;;) {
        int taken = lock_file(fd, LOCK_EX | LOCK_NB);
        if (taken != 0 && taken != EWOULDBLOCK)
            return taken;
        int current = identify(lock, fd, status);
        if (current <= 0)
            return current < 0 ? wrong : (wrong = REPLACED);
        if (taken == 0)
            return status->st_nlink > 1 ? (wrong = NOT_A_PID_FILE) : 0;
        patience->turns = 0;
        int shared = is_free(fd) == 1;
        if (!shared && has_holder(fd))
            return wrong = HELD_BY;
        if (patience->looks >= (shared ? 40u : 6u))
            return wrong = HELD;
        pause_once(patience);
    }
}

static int open_directory(const char *path, size_t length)
{
    char text[4096];
    if (length >= sizeof text || memchr(path, 0, length))
        return wrong = INVALID, -1;
    memcpy(text, path, length);
    text[length] = 0;
    return above_standard_streams(open_at(AT_FDCWD, length ? text : ".", DIRECTORY, 0));
}

/* 0, or -1 and `wrong`. */
static int make_directory(const char *path, size_t length)
{
    char parent[4096];
    for (size_t end = 1; end < length; end++) {
        if (path[end] != '/')
            continue;
        memcpy(parent, path, end);
        parent[end] = 0;
        while (mkdirat(AT_FDCWD, parent, 0755) != 0 && errno != EEXIST)
            if (errno != EINTR)
                return wrong = errno, -1;
    }
    return 0;
}

static int open_place(struct lock *lock, const char *path)
{
    size_t length = strlen(path), directory = length;
    if (length > 4095)
        return wrong = INVALID;
    while (directory && path[directory - 1] != '/')
        directory--;
    const char *name = path + directory;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || length - directory >= sizeof lock->name)
        return wrong = INVALID;
    strcpy(lock->name, name);
    lock->directory = open_directory(path, directory);
    if (lock->directory < 0 && wrong == ENOENT && make_directory(path, directory) == 0)
        lock->directory = open_directory(path, directory);
    return lock->directory < 0 ? wrong : 0;
}

/* The file, or -1 and `wrong`; REPLACED if it existed and is gone. */
static int open_file(const struct lock *lock, int *created)
{
    int fd = open_at(lock->directory, lock->name, READ_WRITE | O_CREAT | O_EXCL, 0644);
    *created = fd >= 0;
    if (fd >= 0 || wrong != EEXIST)
        return fd;
    fd = open_at(lock->directory, lock->name, READ_WRITE, 0);
    if (fd >= 0)
        return above_standard_streams(fd);
    if (wrong == ENOENT)
        return wrong = REPLACED, -1;
    struct stat status;
    int error = wrong == EWOULDBLOCK ? HELD : wrong;
    if (fstatat(lock->directory, lock->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(status.st_mode))
        error = NOT_A_PID_FILE;
    return wrong = error, -1;
}

static void withdraw(const struct lock *lock, int fd)
{
    struct stat status;
    if (lock_file(fd, LOCK_SH | LOCK_NB) == 0 && identify(lock, fd, &status) == 1 && status.st_size == 0)
        remove_name(lock, status.st_dev, status.st_ino);
    lock_file(fd, LOCK_UN);
}

static int write_whole(int fd, const char *text, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t written = pwrite(fd, text + done, size - done, (off_t)done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            int error = written < 0 ? errno : ENOSPC;
            if (done != 0)
                truncate_file(fd, 0);
            return wrong = error;
        }
        done += (size_t)written;
    }
    return 0;
}

static int stamp(struct lock *lock, off_t size)
{
    char text[OVERWRITE];
    size_t length = 1, old = (size_t)size;
    pid_t pid = getpid();
    memset(text, '\n', sizeof text);
    for (pid_t rest = pid; rest; rest /= 10)
        length++;
    size_t at = length - 1;
    for (pid_t rest = pid; rest; rest /= 10)
        text[--at] = (char)('0' + rest % 10);
    if (size > OVERWRITE) {
        if (truncate_file(lock->file, 0) != 0)
            return wrong;
        old = 0;
    }
    if (write_whole(lock->file, text, old > length ? old : length) != 0)
        return wrong;
    lock->stamped = pid;
    if (old > length && truncate_file(lock->file, (off_t)length) != 0)
        return wrong;
    while (fsync(lock->file) != 0)
        if (errno != EINTR)
            return errno == EINVAL || errno == EROFS || errno == ENOSYS ? 0 : (wrong = errno);
    return 0;
}

static int vacate(const struct lock *lock)
{
    int removed = remove_name(lock, lock->device, lock->inode);
    int emptied = removed ? truncate_file(lock->file, 0) : 0;
    int unlocked = lock_file(lock->file, LOCK_UN);
    return removed ? removed : emptied ? emptied : unlocked;
}

/* The locked file, or -1 and `wrong`. */
static int open_and_lock(const struct lock *lock, int *created, struct stat *status, struct patience *patience)
{
    int opened = open_file(lock, created), fd = opened, error = 0;
    if (opened < 0)
        return -1;
    if (opened < 3)
        while ((fd = fcntl(opened, F_DUPFD_CLOEXEC, 3)) < 0 && errno == EINTR)
            ;
    if (fd < 0) {
        error = errno;
        fd = opened;
    } else if (fd != opened)
        close(opened);
    if (error == 0)
        error = contend(lock, fd, status, patience);
    if (error == 0)
        return fd;
    if (*created)
        withdraw(lock, fd);
    else if (error != HELD && error != HELD_BY)
        lock_file(fd, LOCK_UN);
    close(fd);
    return wrong = error, -1;
}

static int acquire(struct lock *lock, const char *path)
{
    struct patience patience = { 0 };
    struct stat status;
    int created;
    if (open_place(lock, path) != 0)
        return wrong;
    while ((lock->file = open_and_lock(lock, &created, &status, &patience)) < 0) {
        if (wrong == REPLACED && patience.turns + 1 < TURNS)
            patience.turns++;
        else if (wrong == HELD && patience.looks < 6)
            pause_once(&patience);
        else {
            close(lock->directory);
            return wrong;
        }
    }
    lock->device = status.st_dev;
    lock->inode = status.st_ino;
    int error = stamp(lock, status.st_size);
    if (error != 0) {
        vacate(lock);
        close(lock->file);
        close(lock->directory);
    }
    return error;
}

static int release(struct lock *lock)
{
    int error = 0;
    if (getpid() == lock->stamped) {
        int now = claim(lock->file);
        if (now < 0)
            error = wrong;
        else if (now == 0 && (error = lock_file(lock->file, LOCK_EX | LOCK_NB)) != 0)
            error = error == EWOULDBLOCK ? 0 : error;
        else if (now == 0 || now == lock->stamped)
            error = vacate(lock);
    }
    close(lock->file);
    close(lock->directory);
    return error;
}

int main(int count, char **arguments)
{
    struct lock lock;
    if (count < 2 || acquire(&lock, arguments[1]) != 0)
        return 1;
    pause();
    return release(&lock) != 0;
}
