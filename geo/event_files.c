/* SPDX-License-Identifier: Apache-2.0
 * event_files.c - the event's three files changed together. Declared in event_files.h. */
#include "geo/event_files.h"

#include "models/base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

const char *const event_files_name[EVENT_N_FILES] = {"chips.tif", "chips.gpkg", "event.json"};
static const char *const next_name[EVENT_N_FILES] = {"chips.next.tif", "chips.next.gpkg", "event.next.json"};

/* The folder, locked; -1 on error. Closing it ends the lock. */
static int lock_folder(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        err_errno(e, ERR_RUNTIME, errno, "%s cannot be opened", dir);
        return -1;
    }
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR) /* a file system without locks goes on without */
        ;
    return fd;
}

static bool sync_fd(int fd, const char *name, struct err *e)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == EROFS ||
           err_errno(e, ERR_RUNTIME, errno, "%s cannot be written to disk", name);
}

static bool sync_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 ? sync_fd(fd, path, e) : err_errno(e, ERR_RUNTIME, errno, "%s cannot be read", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool join(char path[4096], const char *dir, const char *name, struct err *e)
{
    return file_join(path, 4096, dir, name, e);
}

/* Next names to final ones. One that is gone has been moved already. */
static bool finish(const char *dir, int fd, struct err *e)
{
    char from[4096], to[4096];
    for (int k = 0; k < EVENT_N_FILES; k++) {
        if (!join(from, dir, next_name[k], e) || !join(to, dir, event_files_name[k], e))
            return false;
        /* The manifest goes last and onto disk after the files that it describes. */
        if (k == EVENT_MANIFEST && !sync_fd(fd, dir, e))
            return false;
        if (rename(from, to) != 0 && errno != ENOENT)
            return err_errno(e, ERR_RUNTIME, errno,
                             "%s: its files were changing places when that was cut short, and %s cannot be "
                             "replaced; open the event once as somebody who may write there",
                             dir, event_files_name[k]);
    }
    return sync_fd(fd, dir, e);
}

static bool is_decided(const char *dir, bool *yes, struct err *e)
{
    char path[4096];
    if (!join(path, dir, next_name[EVENT_MANIFEST], e))
        return false;
    *yes = access(path, F_OK) == 0;
    return true;
}

bool event_files_finish(const char *dir, struct err *e)
{
    bool yes;
    if (!is_decided(dir, &yes, e))
        return false;
    if (!yes)
        return true;
    int fd = lock_folder(dir, e);
    bool ok = fd >= 0 && is_decided(dir, &yes, e) && (!yes || finish(dir, fd, e));
    if (fd >= 0)
        close(fd);
    return ok;
}

bool event_files_replace(const char *dir, const char *const from[EVENT_N_FILES], struct err *e)
{
    char next[EVENT_N_FILES][4096];
    int n = 0;
    bool is_pending = false;
    for (int k = 0; k < EVENT_N_FILES; k++)
        if (!join(next[k], dir, next_name[k], e) || !sync_file(from[k], e))
            return false;
    int fd = lock_folder(dir, e);
    /* What another has decided comes first, or its parts would mix with ours. */
    bool ok = fd >= 0 && is_decided(dir, &is_pending, e) && (!is_pending || finish(dir, fd, e));
    for (; ok && n < EVENT_N_FILES; n++) {
        if (n == EVENT_MANIFEST && !(ok = sync_fd(fd, dir, e)))
            break;
        ok = rename(from[n], next[n]) == 0 ||
             err_errno(e, ERR_RUNTIME, errno, "%s cannot be renamed", from[n]);
    }
    if (ok)
        ok = sync_fd(fd, dir, e) && finish(dir, fd, e);
    else
        for (int k = 0; fd >= 0 && k < EVENT_MANIFEST; k++)
            unlink(next[k]);
    if (fd >= 0)
        close(fd);
    return ok;
}

bool event_files_owns(const char *name)
{
    for (int k = 0; k < EVENT_N_FILES; k++) {
        size_t n = strlen(event_files_name[k]), stem = strcspn(event_files_name[k], ".");
        if (strncmp(name, event_files_name[k], n) == 0 && (name[n] == '\0' || name[n] == '-')) /* -journal */
            return true;
        if (strcmp(name, next_name[k]) == 0 ||
            (strncmp(name, event_files_name[k], stem) == 0 && strncmp(name + stem, ".tmp-", 5) == 0))
            return true;
    }
    return false;
}
