/* A service that stays in the foreground, for the recipes: notes HUP, ends at TERM. Writes to /starts that it was
   started, and what else happens to it in /events, both in the machine in which it runs. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *file, const char *what)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    dprintf(fd, "%s%d\n", what, (int)getpid());
    close(fd);
}

int main(void)
{
    int signal;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    note("/starts/demo", "");
    note("/events", "started ");
    puts("demo: serving");
    fflush(stdout);
    for (;;) {
        sigwait(&set, &signal);
        if (signal == SIGTERM)
            break;
        note("/events", "reloaded ");
    }
    note("/events", "stopped ");
    return 0;
}
