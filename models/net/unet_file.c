/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_file.c - see unet_file.h. What is read is trusted as little as checkpoint.h trusts it: every weight must be a
 * number, every setting in range. */
#include "models/net/unet_file.h"

#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

static void tensor_name(const struct unet_file_block *b, int i, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s%s", b->prefix, b->tensor[i].name);
}

/* ---- settings ---- */

static void settings_put(const struct unet_file_kind *kind, const void *config, cJSON *j)
{
    for (int i = 0; i < kind->n_settings; i++) {
        const struct unet_file_setting *s = &kind->setting[i];
        const void *field = (const char *)config + s->at;
        cJSON_AddNumberToObject(j, s->name,
                                s->type == UNET_FILE_INT        ? *(const int *)field
                                : s->type == UNET_FILE_UNSIGNED ? *(const unsigned *)field
                                : s->type == UNET_FILE_BOOL     ? *(const bool *)field
                                : s->type == UNET_FILE_BIG      ? (double)*(const uint64_t *)field
                                                                : *(const double *)field);
    }
    kind->put(config, j);
}

static bool settings_take(const struct unet_file_kind *kind, const cJSON *j, void *config)
{
    memset(config, 0, kind->config_size);
    for (int i = 0; i < kind->n_settings; i++) {
        const struct unet_file_setting *s = &kind->setting[i];
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(j, s->name);
        const double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;
        void *field = (char *)config + s->at;
        if (!cJSON_IsNumber(item) ||
            (s->type != UNET_FILE_REAL && !(v >= s->low && v <= s->high && v == floor(v))))
            return false;
        if (s->type == UNET_FILE_INT)
            *(int *)field = (int)v;
        else if (s->type == UNET_FILE_UNSIGNED)
            *(unsigned *)field = (unsigned)v;
        else if (s->type == UNET_FILE_BOOL)
            *(bool *)field = v != 0;
        else if (s->type == UNET_FILE_BIG)
            *(uint64_t *)field = (uint64_t)v;
        else
            *(double *)field = v;
    }
    return kind->take(j, config);
}

/* Freed by cJSON_free. */
static char *settings_text(const struct unet_file_kind *kind, const void *config, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    if (j)
        settings_put(kind, config, j);
    char *text = j ? cJSON_PrintUnformatted(j) : NULL;
    cJSON_Delete(j);
    if (!text)
        err_set(e, ERR_RESOURCE, "out of memory for a model's settings");
    return text;
}

/* ---- files ---- */

bool unet_file_save(const struct unet_file_kind *kind, const char *path, const void *config,
                    const struct unet_file_block *block, int n_blocks, const struct checkpoint_meta *own,
                    int n_own, const struct checkpoint_meta *extra, int n_extra, struct err *e)
{
    size_t n = 0;
    for (int b = 0; b < n_blocks; b++)
        n += (size_t)block[b].n_tensors;
    struct checkpoint_tensor *tensor = mem_array(n, sizeof *tensor, "the list of tensors", e);
    char(*name)[NAME_BYTES] = tensor ? mem_array(n, NAME_BYTES, "the list of tensors", e) : NULL;
    struct checkpoint_meta *meta =
        name ? mem_array((size_t)3 + n_own + n_extra, sizeof *meta, "the model's description", e) : NULL;
    char *settings = meta ? settings_text(kind, config, e) : NULL;
    bool ok = false;
    if (!settings)
        goto out;
    n = 0;
    for (int b = 0; b < n_blocks; b++)
        for (int i = 0; i < block[b].n_tensors; i++, n++) {
            const struct unet_tensor *t = &block[b].tensor[i];
            tensor_name(&block[b], i, name[n]);
            tensor[n] = (struct checkpoint_tensor){.name = name[n],
                                                   .dtype = CHECKPOINT_F32,
                                                   .n_dims = t->n_dims,
                                                   .data = block[b].values + t->start};
            for (int k = 0; k < t->n_dims; k++)
                tensor[n].dims[k] = t->dims[k];
        }
    int n_meta = 0;
    meta[n_meta++] = (struct checkpoint_meta){"aftermap.version", AM_VERSION};
    meta[n_meta++] = (struct checkpoint_meta){"aftermap.kind", kind->name};
    meta[n_meta++] = (struct checkpoint_meta){kind->key, settings};
    for (int i = 0; i < n_own; i++)
        meta[n_meta++] = own[i];
    for (int i = 0; i < n_extra; i++)
        meta[n_meta++] = extra[i];
    ok = checkpoint_write(path, tensor, (int)n, meta, n_meta, e);
out:
    cJSON_free(settings);
    free(meta);
    free(name);
    free(tensor);
    return ok;
}

struct checkpoint *unet_file_open(const struct unet_file_kind *kind, const char *path, void *config,
                                  struct err *e)
{
    struct checkpoint *f = checkpoint_open(path, e);
    if (!f)
        return NULL;
    const char *name = checkpoint_meta_get(f, "aftermap.kind"), *text = checkpoint_meta_get(f, kind->key);
    cJSON *j = text ? cJSON_Parse(text) : NULL;
    bool ok = false;
    if (!name || strcmp(name, kind->name) != 0 || !text)
        err_set(e, ERR_MODEL, "%s: is no %s; make one with %s", path, kind->what, kind->maker);
    else if (!cJSON_IsObject(j) || !settings_take(kind, j, config))
        err_set(e, ERR_MODEL, "%s: its settings cannot be read; train it anew", path);
    else if (!kind->check(config, e)) {
        if (e)
            e->code = ERR_MODEL;
        err_prefix(e, "%s", path);
    } else {
        ok = true;
    }
    cJSON_Delete(j);
    if (!ok) {
        checkpoint_close(f);
        return NULL;
    }
    return f;
}

bool unet_file_same(const struct unet_file_kind *kind, const char *path, const void *config,
                    const void *expected, struct err *e)
{
    char *mine = settings_text(kind, expected, e), *theirs = mine ? settings_text(kind, config, e) : NULL;
    const bool ok = theirs && (strcmp(mine, theirs) == 0 ||
                               err_set(e, ERR_MODEL,
                                       "%s: was begun with other settings; give the same ones, or another "
                                       "output",
                                       path));
    cJSON_free(mine);
    cJSON_free(theirs);
    return ok;
}

bool unet_file_read(const struct checkpoint *f, const char *path, const struct unet_file_block *block,
                    int n_blocks, struct err *e)
{
    char name[NAME_BYTES];
    for (int b = 0; b < n_blocks; b++)
        for (int i = 0; i < block[b].n_tensors; i++) {
            const struct unet_tensor *t = &block[b].tensor[i];
            float *values = block[b].values + t->start;
            tensor_name(&block[b], i, name);
            if (!checkpoint_copy(f, name, CHECKPOINT_F32, t->count, values, e))
                return false;
            for (size_t k = 0; k < t->count; k++)
                if (!isfinite(values[k]))
                    return err_set(e, ERR_MODEL, "%s: holds weights that are no numbers; train it anew",
                                   path);
        }
    return true;
}

/* ---- numbers as text ---- */

void unet_file_put_big(cJSON *j, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    cJSON_AddStringToObject(j, name, text);
}

bool unet_file_take_big(const cJSON *j, const char *name, uint64_t *value)
{
    return unet_file_number(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, name)), '\0', value,
                            NULL);
}

bool unet_file_number(const char *text, char end_at, uint64_t *value, const char **rest)
{
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return false;
    *value = strtoull(text, &end, 10);
    if (rest)
        *rest = *end ? end + 1 : end;
    return *end == end_at || !*end;
}
