/* SPDX-License-Identifier: Apache-2.0
 *
 * label.c - the damage scale's names and how a source's own values are mapped onto it. Declared in event.h
 * and vector.h. */
#include "geo/vector.h"

#include "models/base/mem.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const level_name[4] = {"none", "minor", "major", "destroyed"};

const char *event_level_name(int level)
{
    return level >= 0 && level < 4 ? level_name[level] : "unknown";
}

bool event_level_parse(const char *name, int *level)
{
    for (int i = 0; i < 4; i++)
        if (strcasecmp(name, level_name[i]) == 0) {
            *level = i;
            return true;
        }
    *level = -1;
    return strcasecmp(name, "unknown") == 0;
}

const char *event_reason_text(const char *reason)
{
    static const char *const known[] = {
        "",           "nodata",    "cloud",  "shadow",      "smoke",
        "vegetation", "off_nadir", "misreg", "no_building", "under_construction",
        "unclear"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(reason, known[i]) == 0)
            return known[i];
    return NULL;
}

bool event_reason_known(const char *reason)
{
    const char *text = event_reason_text(reason);
    return text && *text;
}

static bool parse_number(const char *text, int *level)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v == -1 || v == 0 || v == 1 || v == 2 || v == 3))
        return false;
    *level = (int)v;
    return true;
}

/* Cuts spaces at both ends, in place. */
static char *trim(char *s)
{
    s += strspn(s, " \t");
    for (size_t n = strlen(s); n && (s[n - 1] == ' ' || s[n - 1] == '\t'); n--)
        s[n - 1] = '\0';
    return s;
}

static bool add_pair(struct label_map *m, char *pair, struct err *e)
{
    char *eq = strrchr(pair, '=');
    if (!eq)
        return err_set(e, ERR_USAGE, "label map: '%s' is no VALUE=LEVEL pair", pair);
    *eq = '\0';
    char *value = trim(pair), *to = trim(eq + 1);
    int level;
    if (!event_level_parse(to, &level) && !parse_number(to, &level))
        return err_set(
            e, ERR_USAGE,
            "label map: '%s' is mapped to '%s', which is not one of none, minor, major, destroyed, "
            "unknown",
            value, to);
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->value[i], value) == 0)
            return err_set(e, ERR_USAGE, "label map: '%s' is mapped twice", value);
    if (!mem_grow(&m->value, (size_t)m->n + 1, sizeof *m->value, "the label map", e) ||
        !mem_grow(&m->level, (size_t)m->n + 1, sizeof *m->level, "the label map", e) ||
        !(m->value[m->n] = mem_strdup(value, e)))
        return false;
    m->level[m->n++] = level;
    return true;
}

bool label_map_parse(struct label_map *m, const char *text, struct err *e)
{
    *m = (struct label_map){0};
    if (!text)
        return true;
    char *copy = mem_strdup(text, e), *rest = copy, *pair;
    bool ok = copy != NULL;
    while (ok && (pair = strsep(&rest, ",")))
        ok = add_pair(m, pair, e);
    free(copy);
    if (!ok)
        label_map_free(m);
    return ok;
}

void label_map_free(struct label_map *m)
{
    for (int i = 0; i < m->n; i++)
        free(m->value[i]);
    free(m->value);
    free(m->level);
    *m = (struct label_map){0};
}

bool label_map_find(const struct label_map *m, const char *value, int *level)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->value[i], value) == 0) {
            *level = m->level[i];
            return true;
        }
    return event_level_parse(value, level) || (m->n == 0 && parse_number(value, level));
}
