/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs_child.c - one job as a process of its own: started, listened to, asked to end. Declared in jobs_parts.h.
 *
 * fork and exec, not posix_spawn: the child has to say before exec that it wants to die with its parent, change its
 * folder and priority, and let go of every descriptor but three and the lock; only calls that are safe after a fork of a
 * program with threads happen in between. The parent-death signal is tied to the thread that forks, the worker, which
 * lives as long as the server does.
 *
 * The child leads a process group of its own, so that a Ctrl-C at the server's terminal reaches it only through
 * jobs_stop(), and it may save its checkpoint in peace. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/jobs_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    OUTPUT_MAX = STORE_JSON_MAX - 4096,
    LINE_MAX_BYTES = 4096,
    KILL_AFTER_MS = 20000,  /* from the first SIGINT */
    ORPHAN_WAIT_MS = 30000, /* for a child whose server was killed */
    LOCK_FD = 3,
    FAILURE_FD = 4
};

extern char **environ;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- starting
 * ------------------------------------------------------------------------------------------------------------ */

/* In the child; never returns. `failure` is the pipe that tells the parent errno; exec closes it. */
static void become(const char *program, char **words, char **environment, const char *folder, int nice,
                   pid_t parent, const int to[3], int lock_fd, int failure)
{
    sigset_t none;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    const int signals[] = {SIGINT, SIGTERM, SIGPIPE, SIGHUP, SIGQUIT, SIGCHLD};
    int high[5]; /* out of the way first, so that no copy lands on one that is still wanted */
    const int from[5] = {to[0], to[1], to[2], lock_fd, failure};
    int tell = failure;
    bool ok = true;
    sigemptyset(&none);
    sigemptyset(&plain.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &plain, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int k = 0; ok && k < 5; k++)
        ok = (high[k] = fcntl(from[k], F_DUPFD_CLOEXEC, 10)) >= 0;
    for (int k = 0; ok && k < 4; k++)
        ok = dup2(high[k], k) == k; /* 3 is LOCK_FD */
    ok = ok && dup3(high[4], FAILURE_FD, O_CLOEXEC) == FAILURE_FD;
    if (ok) {
        tell = FAILURE_FD;
        close_range(FAILURE_FD + 1, ~0u,
                    0); /* an old kernel without it: what is not close-on-exec stays open */
    }
    setpgid(0, 0);
    setpriority(PRIO_PROCESS, 0, nice);
    ok = ok && prctl(PR_SET_PDEATHSIG, SIGINT) == 0 && chdir(folder) == 0;
    ok = ok && getppid() == parent; /* else it died before it could be told to take us along */
    if (ok)
        execve(program, words, environment);
    int why = errno;
    while (write(tell, &why, sizeof why) < 0 && errno == EINTR)
        ;
    kill(getpid(), SIGKILL); /* nothing of the server's may run here: no handlers of its end, no buffers */
}

/* The server's environment with AFTERMAP_DRIVERS=few; the strings stay the server's. NULL: memory ran out. */
static char **make_environment(struct err *e)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **out = mem_array(n + 2, sizeof *out, "a job's environment", e);
    for (size_t i = 0; out && i < n; i++)
        if (strncmp(environ[i], "AFTERMAP_DRIVERS=", 17) != 0)
            out[k++] = environ[i];
    if (out)
        out[k] = (char *)"AFTERMAP_DRIVERS=few";
    return out;
}

static void close_both(int pair[2])
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

/* *out and *err: ends to read from. The pid, or -1. */
static pid_t start(const char *program, const struct jobs_words *words, const char *folder, int nice,
                   int lock_fd, int *out, int *err, struct err *e)
{
    int o[2] = {-1, -1}, r[2] = {-1, -1}, f[2] = {-1, -1}, why = 0;
    const pid_t parent = getpid();
    pid_t pid = -1;
    char **environment = make_environment(e);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!environment)
        goto done;
    if (null < 0 || pipe2(o, O_CLOEXEC) != 0 || pipe2(r, O_CLOEXEC) != 0 || pipe2(f, O_CLOEXEC) != 0 ||
        (pid = fork()) < 0) {
        err_errno(e, ERR_RESOURCE, errno, "a job cannot be started");
        goto done;
    }
    if (pid == 0)
        become(program, words->item, environment, folder, nice, parent, (const int[3]){null, o[1], r[1]},
               lock_fd, f[1]);
    close(f[1]);
    f[1] = -1;
    ssize_t n;
    while ((n = read(f[0], &why, sizeof why)) < 0 && errno == EINTR)
        ;
    if (n == (ssize_t)sizeof why) { /* exec failed */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        pid = -1;
        err_errno(e, ERR_RUNTIME, why, "a job cannot be started");
        goto done;
    }
    *out = o[0];
    *err = r[0];
    o[0] = r[0] = -1;
done:
    close_both(o);
    close_both(r);
    close_both(f);
    if (null >= 0)
        close(null);
    free(environment);
    return pid;
}

/* ---- listening
 * ----------------------------------------------------------------------------------------------------------- */

struct listener {
    void (*report)(void *ctx, const char *stage, double done, double total, double eta_s, const char *note);
    void *ctx;
    struct jobs_end *end;
    size_t n_output, room;
    char line[LINE_MAX_BYTES];
    size_t n_line;
    bool is_long; /* the rest of a line too long is dropped */
};

static void hear_line(struct listener *l)
{
    l->line[l->n_line] = '\0';
    cJSON *o = l->line[0] == '{' ? cJSON_Parse(l->line) : NULL;
    const char *stage = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "stage"));
    if (stage) {
        const cJSON *done = cJSON_GetObjectItemCaseSensitive(o, "done"),
                    *total = cJSON_GetObjectItemCaseSensitive(o, "total"),
                    *eta = cJSON_GetObjectItemCaseSensitive(o, "eta_s");
        l->report(l->ctx, stage, cJSON_IsNumber(done) ? done->valuedouble : 0,
                  cJSON_IsNumber(total) ? total->valuedouble : 0, cJSON_IsNumber(eta) ? eta->valuedouble : -1,
                  cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "note")));
    } else if (l->n_line && strncmp(l->line, "aftermap: note:", 15) != 0) {
        const char *text = strncmp(l->line, "aftermap: ", 10) == 0 ? l->line + 10 : l->line;
        size_t n = strlen(text), most = sizeof l->end->last - 1;
        if (n > most)
            for (n = most; n && ((unsigned char)text[n] & 0xc0) == 0x80; n--) /* no half character */
                ;
        memcpy(l->end->last, text, n);
        l->end->last[n] = '\0';
    }
    cJSON_Delete(o);
    l->n_line = 0;
}

static void hear(struct listener *l, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n') {
            if (!l->is_long)
                hear_line(l);
            l->n_line = 0;
            l->is_long = false;
        } else if (l->n_line + 1 < sizeof l->line) {
            l->line[l->n_line++] = text[i];
        } else {
            l->is_long = true;
        }
    }
}

static void keep(struct listener *l, const char *text, size_t n)
{
    size_t take = l->n_output + n > OUTPUT_MAX ? OUTPUT_MAX - l->n_output : n;
    if (l->n_output + take + 1 > l->room) {
        size_t room = (l->room + take + 1) * 2;
        if (!mem_grow(&l->end->output, room, 1, "a job's result", NULL))
            return; /* the result is cut, so it is no JSON, and the caller says so */
        l->room = room;
    }
    memcpy(l->end->output + l->n_output, text, take);
    l->n_output += take;
    l->end->output[l->n_output] = '\0';
}

/* One read; closes the descriptor at its end. */
static void drain(struct listener *l, int *fd, bool is_output)
{
    char buffer[4096];
    ssize_t n = read(*fd, buffer, sizeof buffer);
    if (n > 0)
        is_output ? keep(l, buffer, (size_t)n) : hear(l, buffer, (size_t)n);
    if (n == 0 || (n < 0 && errno != EINTR)) {
        close(*fd);
        *fd = -1;
    }
}

bool jobs_child_run(const char *program, const struct jobs_words *words, const char *folder, int nice,
                    int lock_fd, int wake_fd, bool (*stop)(void *ctx),
                    void (*report)(void *ctx, const char *stage, double done, double total, double eta_s,
                                   const char *note),
                    void *ctx, struct jobs_end *end, struct err *e)
{
    struct listener l = {.report = report, .ctx = ctx, .end = end};
    int out = -1, err = -1, status = 0;
    char text[24];
    int64_t asked_ms = -1;
    *end = (struct jobs_end){.exit_status = -1};
    pid_t pid = start(program, words, folder, nice, lock_fd, &out, &err, e);
    if (pid < 0)
        return false;
    int n = snprintf(text, sizeof text, "%ld\n", (long)pid); /* for a server that finds this child orphaned */
    if (ftruncate(lock_fd, 0) != 0 || pwrite(lock_fd, text, (size_t)n, 0) != n)
        end->last[0] = '\0'; /* it can then only be waited for, not ended */
    while (out >= 0 || err >= 0) {
        struct pollfd p[3] = {
            {.fd = wake_fd, .events = POLLIN}, {.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
        if (poll(p, 3, asked_ms >= 0 ? 500 : -1) < 0 && errno != EINTR)
            break;
        uint64_t count;
        if (p[0].revents && read(wake_fd, &count, sizeof count) < 0)
            count = 0;
        if (out >= 0 && p[1].revents)
            drain(&l, &out, true);
        if (err >= 0 && p[2].revents)
            drain(&l, &err, false);
        if (asked_ms < 0 && stop(ctx)) {
            kill(pid, SIGINT);
            asked_ms = now_ms();
        }
        if (asked_ms >= 0 && now_ms() - asked_ms > KILL_AFTER_MS)
            kill(pid, SIGKILL);
    }
    if (l.n_line && !l.is_long)
        hear_line(&l);
    close_both((int[2]){out, err});
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status))
        end->exit_status = WEXITSTATUS(status);
    else
        end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return true;
}

/* ---- orphans
 * ------------------------------------------------------------------------------------------------------------- */

/* Ends the process in the lock file if it is the one that holds the lock: its descriptor 3 is that file. */
static void end_orphan(int fd, const char *path)
{
    char text[24] = "", link[64], target[PATH_MAX];
    if (pread(fd, text, sizeof text - 1, 0) <= 0)
        return;
    long pid = strtol(text, NULL, 10);
    if (pid <= 1)
        return;
    snprintf(link, sizeof link, "/proc/%ld/fd/%d", pid, LOCK_FD);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0)
        return;
    target[n] = '\0';
    if (strcmp(target, path) == 0)
        kill((pid_t)pid, SIGKILL);
}

int jobs_child_lock(const char *root, struct err *e)
{
    char path[PATH_MAX];
    if (!file_join(path, sizeof path, root, ".worker", e))
        return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_errno(e, ERR_INPUT, errno, "%s cannot be written", path);
        return -1;
    }
    const int64_t begin = now_ms();
    bool is_ended = false;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec pause = {.tv_nsec = 50000000};
        if (errno != EWOULDBLOCK && errno != EINTR) {
            err_errno(e, ERR_SERVE, errno, "%s cannot be locked", path);
            close(fd);
            return -1;
        }
        if (!is_ended && now_ms() - begin > ORPHAN_WAIT_MS) {
            end_orphan(fd, path);
            is_ended = true;
        }
        if (now_ms() - begin > ORPHAN_WAIT_MS + 10000) {
            err_set(e, ERR_SERVE,
                    "a job of an earlier server still runs and does not end; look for who holds %s", path);
            close(fd);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    return fd;
}
