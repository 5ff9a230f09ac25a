/* A kernel without pidfds, as those before 5.3: `pidfdless COMMAND...` becomes the command, for which, and for whatever it
   starts, their calls do not exist. `pidfdless` alone tells, by its exit code, whether it is so. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_missing(long call) { return syscall(call, -1, 0, 0, 0) == -1 && errno == ENOSYS; }

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_send_signal, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (argc < 2) return !(is_missing(SYS_pidfd_open) && is_missing(SYS_pidfd_send_signal));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) execv(argv[1], argv + 1);
    return 71;
}
