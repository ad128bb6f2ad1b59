/* SPDX-License-Identifier: Apache-2.0
 * refs.c - from what a client names to a path (refs.h). */
#include "web/refs.h"

#include "models/base/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool refs_is_upload(const char *ref)
{
    return strncmp(ref, "u-", 2) == 0 && strlen(ref) == 34 && strspn(ref + 2, "0123456789abcdef") == 32;
}

bool refs_upload_path(const char *root, const char *name, char path[REFS_PATH_SIZE], struct err *e)
{
    int n = snprintf(path, REFS_PATH_SIZE, "%s/.uploads%s%s", root, name ? "/" : "", name ? name : "");
    return n < REFS_PATH_SIZE || err_set(e, ERR_INPUT, "the data root's path is too long");
}

/* Every component visible, none of them leading upwards. */
static bool is_plain(const char *name)
{
    if (*name == '/' || *name == '<' || strstr(name, "://") || strchr(name, '\\') || strlen(name) > 2000)
        return false;
    for (const char *p = name; *p; p += strcspn(p, "/"), p += *p == '/')
        if (*p == '.' || *p == '/')
            return false;
    return strncmp(name, "vsi", 3) != 0;
}

static bool resolve(const char *root, const char *name, bool is_folder, char path[REFS_PATH_SIZE],
                    struct err *e)
{
    char joined[REFS_PATH_SIZE];
    struct stat st;
    size_t n = strlen(root);
    if (!is_plain(name))
        return err_set(e, ERR_INPUT, "'%.200s' is no name below the data root", name);
    if (snprintf(joined, sizeof joined, "%s/%s", root, name) >= (int)sizeof joined)
        return err_set(e, ERR_INPUT, "'%.200s' is too long", name);
    char *real = realpath(joined, NULL);
    bool is_inside =
        real && strlen(real) < REFS_PATH_SIZE && strncmp(real, root, n) == 0 && (real[n] == '/' || !real[n]);
    bool fits = is_inside && stat(real, &st) == 0 && (is_folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
    if (fits)
        snprintf(path, REFS_PATH_SIZE, "%s", real);
    free(real);
    return fits ||
           err_set(e, ERR_INPUT, "the data root has no %s '%.200s'", is_folder ? "folder" : "file", name);
}

bool refs_resolve(const char *root, const char *ref, char path[REFS_PATH_SIZE], struct err *e)
{
    static const char *const endings[] = {"tif", "gpkg", "geojson"};
    char name[64];
    if (!refs_is_upload(ref))
        return resolve(root, ref, false, path, e);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.%s", ref, endings[i]);
        if (!refs_upload_path(root, name, path, e))
            return false;
        if (file_exists(path))
            return true;
    }
    return err_set(e, ERR_INPUT, "upload %s is not there, or not complete", ref);
}

bool refs_resolve_folder(const char *root, const char *name, char path[REFS_PATH_SIZE], struct err *e)
{
    return resolve(root, name, true, path, e);
}
