/* SPDX-License-Identifier: Apache-2.0
 * tables.c - the smaller collections kept in memory and lent to requests (tables.h). */
#include "web/tables.h"

#include "models/base/mem.h"
#include "web/workflow.h"
#include "web/zone_setting.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const table_names[TABLE_KINDS] = {"labels", "zones", "scenes", "aoi"};
const char *const table_titles[TABLE_KINDS] = {"Labels that people gave.",
                                               "Zones, with the map's counts of buildings.",
                                               "Outlines of the images.", "The area of interest."};

enum { TABLES_KEPT = 16, STAMP_SIZE = 160 };

struct table {
    struct tables *owner;
    struct assessment *as;
    char stamp[STAMP_SIZE]; /* of what it was made from */
    int n_users;            /* guarded by the owner's lock, as is the rest */
    bool is_kept;
    uint64_t used;
};

struct tables {
    pthread_mutex_t lock;
    struct table *slot[TABLES_KEPT];
    uint64_t clock;
};

struct tables *tables_create(struct err *e)
{
    struct tables *t = mem_array(1, sizeof *t, "the collections", e);
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void free_table(struct table *t)
{
    if (t)
        assessment_close(t->as);
    free(t);
}

void tables_free(struct tables *t)
{
    if (!t)
        return;
    for (int i = 0; i < TABLES_KEPT; i++)
        free_table(t->slot[i]);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- which there are
 * ----------------------------------------------------------------------------------------------- */

/* The settings of an assessment; NULL: it has none (a map that is only shown). */
static cJSON *settings_of(const struct service *s, const char *aid, int64_t *seq)
{
    struct store_assessment a = {0};
    cJSON *inputs = NULL;
    *seq = 0;
    if (s->workflow && store_assessment_get(s->workflow->store, aid, &a, NULL)) {
        inputs = cJSON_Parse(a.inputs);
        *seq = a.seq;
    }
    store_assessment_free(&a);
    return inputs;
}

bool tables_has(const struct service *s, const struct assessment *as, enum table_kind kind)
{
    int64_t seq;
    struct zone_setting z;
    if (kind == TABLE_SCENES)
        return true;
    if (!s->workflow || kind == TABLE_LABELS)
        return s->workflow != NULL;
    cJSON *inputs = settings_of(s, as->id, &seq);
    bool has = kind == TABLE_ZONES ? zone_setting_read(inputs, &z)
                                   : cJSON_GetObjectItemCaseSensitive(inputs, "aoi") != NULL;
    cJSON_Delete(inputs);
    return has;
}

const struct assessment *tables_parse(const struct service *s, const char *collection_id,
                                      enum table_kind *kind)
{
    const char *dot = strrchr(collection_id, '.');
    int k = 0;
    while (dot && k < TABLE_KINDS && strcmp(dot + 1, table_names[k]) != 0)
        k++;
    for (int i = 0; dot && k < TABLE_KINDS && i < s->n; i++) {
        const struct assessment *as = s->assessment[i];
        size_t n = strlen(as->id);
        if ((size_t)(dot - collection_id) != n || strncmp(as->id, collection_id, n) != 0)
            continue;
        *kind = (enum table_kind)k;
        return tables_has(s, as, *kind) ? as : NULL;
    }
    return NULL;
}

/* What the rows depend on, as text. */
static void make_stamp(const struct service *s, const struct assessment *as, enum table_kind kind,
                       char out[STAMP_SIZE])
{
    int64_t seq;
    struct zone_setting z = {0};
    struct stat st = {0};
    cJSON *inputs = settings_of(s, as->id, &seq);
    if (kind == TABLE_ZONES && zone_setting_read(inputs, &z))
        stat(z.path, &st);
    snprintf(out, STAMP_SIZE, "%s %" PRId64 " %lld %lld.%ld %.40s", as->revision,
             kind == TABLE_LABELS ? seq : 0, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec, z.id_field);
    cJSON_Delete(inputs);
}

/* ---- lending
 * ------------------------------------------------------------------------------------------------------- */

static void give_back(void *lent)
{
    struct table *t = lent;
    pthread_mutex_lock(&t->owner->lock);
    bool is_last = --t->n_users == 0 && !t->is_kept;
    pthread_mutex_unlock(&t->owner->lock);
    if (is_last)
        free_table(t);
}

/* Takes slot i off the list; returns its table when nobody uses it. The lock is held. */
static struct table *retire(struct tables *t, int i)
{
    struct table *old = t->slot[i];
    t->slot[i] = NULL;
    if (!old)
        return NULL;
    old->is_kept = false;
    return old->n_users == 0 ? old : NULL;
}

static struct table *find(struct tables *t, const char *collection_id, const char *stamp)
{
    struct table *found = NULL;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < TABLES_KEPT && !found; i++)
        if (t->slot[i] && strcmp(t->slot[i]->as->collection_id, collection_id) == 0 &&
            strcmp(t->slot[i]->stamp, stamp) == 0)
            found = t->slot[i];
    if (found) {
        found->n_users++;
        found->used = ++t->clock;
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

/* Puts a new one in the place of an older one of its name, of none, or of the longest unused. */
static void keep(struct tables *t, struct table *new)
{
    int at = 0;
    pthread_mutex_lock(&t->lock);
    for (int i = 1; i < TABLES_KEPT; i++)
        if (!t->slot[i] ? t->slot[at] != NULL : t->slot[at] && t->slot[i]->used < t->slot[at]->used)
            at = i;
    for (int i = 0; i < TABLES_KEPT; i++)
        if (t->slot[i] && strcmp(t->slot[i]->as->collection_id, new->as->collection_id) == 0)
            at = i;
    struct table *old = retire(t, at);
    t->slot[at] = new;
    new->is_kept = true;
    new->n_users = 1;
    new->used = ++t->clock;
    pthread_mutex_unlock(&t->lock);
    free_table(old);
}

const struct assessment *tables_borrow(const struct service *s, const struct http_request *q,
                                       const struct assessment *as, enum table_kind kind,
                                       struct http_reply *a)
{
    struct http_request *request = (struct http_request *)(uintptr_t)q;
    char stamp[STAMP_SIZE], id[400], title[300];
    struct err e = {0};
    snprintf(id, sizeof id, "%s.%s", as->id, table_names[kind]);
    make_stamp(s, as, kind, stamp);
    struct table *t = find(s->tables, id, stamp);
    if (!t) {
        GDALDatasetH ds = tables_make(s, as, kind, &e);
        t = ds ? mem_array(1, sizeof *t, "a collection", &e) : NULL;
        snprintf(title, sizeof title, "%.200s: %s", as->title, table_names[kind]);
        if (t)
            t->as = assessment_open_layer(GDALDatasetGetLayer(ds, 0), as, id, title, &e);
        if (ds)
            GDALClose(ds);
        if (!t || !t->as) {
            free(t);
            http_problem_err(q, a, 422, &e);
            return NULL;
        }
        t->owner = s->tables;
        snprintf(t->stamp, sizeof t->stamp, "%s", stamp);
        keep(s->tables, t);
    }
    if (request->give_back)
        request->give_back(request->lent);
    request->lent = t;
    request->give_back = give_back;
    return t->as;
}
