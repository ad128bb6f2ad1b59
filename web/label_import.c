/* SPDX-License-Identifier: Apache-2.0
 * label_import.c - labels out of JSON, GeoJSON and CSV (label_import.h). */
#include "web/label_import.h"

#include "models/base/mem.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void label_row_free(struct label_row *row)
{
    free(row->bldg_id);
    free(row->note);
    free(row->by);
}

void label_rows_free(struct label_rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        label_row_free(&r->item[i]);
    free(r->item);
    *r = (struct label_rows){0};
}

static struct label_row *add_row(struct label_rows *r, struct err *e)
{
    if (r->n == LABEL_IMPORT_MAX_ROWS) {
        err_set(e, ERR_INPUT, "more than %d labels come at once; send them in parts", LABEL_IMPORT_MAX_ROWS);
        return NULL;
    }
    size_t room = 64;
    while (room < r->n + 1)
        room *= 2;
    if ((r->n == 0 || r->n == room / 2) && !mem_grow(&r->item, room, sizeof *r->item, "the labels", e))
        return NULL;
    r->item[r->n] = (struct label_row){0};
    return &r->item[r->n++];
}

/* ---- one label
 * ----------------------------------------------------------------------------------------------------- */

static void blame(struct label_row *row, const char *pointer, const char *problem)
{
    if (*row->problem)
        return;
    snprintf(row->pointer, sizeof row->pointer, "%s", pointer);
    snprintf(row->problem, sizeof row->problem, "%s", problem);
}

/* Class and reason together: a class of the scale, its number, or "cannot tell" with a reason. */
static void grade(struct label_row *row, const char *text, const char *reason)
{
    row->reason = reason ? event_reason_text(reason) : "";
    if (!row->reason) {
        row->reason = "";
        blame(
            row, "/reason",
            "reason must be one of nodata, cloud, shadow, smoke, vegetation, off_nadir, misreg, no_building, "
            "under_construction, unclear");
    }
    row->level = -1;
    bool is_number = text && text[0] >= '0' && text[0] <= '3' && !text[1];
    if (is_number)
        row->level = text[0] - '0';
    else if (text && *text && strcmp(text, "-1") != 0 && !event_level_parse(text, &row->level))
        blame(row, "/dmg_class", "dmg_class must be none, minor, major, destroyed or unknown");
    if (row->level >= 0 && *row->reason)
        blame(row, "/reason", "a reason goes with unknown only");
    if (row->level < 0 && !*row->reason) {
        if (text && *text)
            row->reason = "unclear"; /* looked at, and no better reason given */
        else
            blame(row, "/dmg_class", "a class or a reason is needed");
    }
}

static bool keep(char **out, const char *text, struct err *e)
{
    *out = mem_strdup(text ? text : "", e);
    return *out != NULL;
}

static const char *text_of(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

static void read_shift(struct label_row *row, const cJSON *shift)
{
    const cJSON *x = cJSON_GetArrayItem(shift, 0), *y = cJSON_GetArrayItem(shift, 1);
    if (!shift || cJSON_IsNull(shift))
        return;
    row->has_shift = cJSON_GetArraySize(shift) == 2 && cJSON_IsNumber(x) && cJSON_IsNumber(y) &&
                     fabs(x->valuedouble) <= 100 && fabs(y->valuedouble) <= 100;
    if (!row->has_shift) {
        blame(row, "/shift", "shift must be two numbers, metres to the east and north, at most 100");
        return;
    }
    row->shift_x = x->valuedouble;
    row->shift_y = y->valuedouble;
}

bool label_import_object(const cJSON *o, struct label_row *row, struct err *e)
{
    const cJSON *sure = cJSON_GetObjectItemCaseSensitive(o, "sure");
    const cJSON *draw = cJSON_GetObjectItemCaseSensitive(o, "draw");
    const cJSON *level = cJSON_GetObjectItemCaseSensitive(o, "dmg_level");
    const char *class = text_of(o, "dmg_class"), *purpose = text_of(o, "purpose");
    char number[16];
    *row = (struct label_row){.is_sure = true, .reason = ""};
    if (!class)
        class = text_of(o, "grade");
    if (!class && cJSON_IsNumber(level)) {
        snprintf(number, sizeof number, "%d", level->valueint);
        class = number;
    }
    grade(row, class, text_of(o, "reason"));
    if (cJSON_IsBool(sure))
        row->is_sure = cJSON_IsTrue(sure);
    if (purpose && !store_purpose_parse(purpose, &row->purpose))
        blame(row, "/purpose", "purpose must be train or validate");
    if (cJSON_IsNumber(draw) && draw->valuedouble >= 1 && draw->valuedouble < 1e9)
        row->draw = (int64_t)draw->valuedouble;
    else if (draw && !cJSON_IsNull(draw))
        blame(row, "/draw", "draw must be a number from 1");
    read_shift(row, cJSON_GetObjectItemCaseSensitive(o, "shift"));
    return keep(&row->bldg_id, text_of(o, "bldg_id"), e) && keep(&row->note, text_of(o, "note"), e) &&
           keep(&row->by, text_of(o, "by"), e);
}

/* ---- JSON and GeoJSON
 * --------------------------------------------------------------------------------------------- */

static bool read_list(const char *text, size_t size, const char *list_name, const char *inner,
                      struct label_rows *r, struct err *e)
{
    const cJSON *item;
    *r = (struct label_rows){0};
    cJSON *doc = memchr(text, 0, size) ? NULL : cJSON_ParseWithLength(text, size);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(doc, list_name);
    bool ok = cJSON_IsArray(list) ||
              err_set(e, ERR_INPUT, "the body is no JSON object with an array '%s'", list_name);
    for (item = ok && list ? list->child : NULL; ok && item; item = item->next) {
        struct label_row *row = add_row(r, e);
        ok = row && label_import_object(inner ? cJSON_GetObjectItemCaseSensitive(item, inner) : item, row, e);
    }
    cJSON_Delete(doc);
    if (!ok)
        label_rows_free(r);
    return ok;
}

bool label_import_json(const char *text, size_t size, struct label_rows *r, struct err *e)
{
    return read_list(text, size, "labels", NULL, r, e);
}

bool label_import_geojson(const char *text, size_t size, struct label_rows *r, struct err *e)
{
    return read_list(text, size, "features", "properties", r, e);
}

/* ---- CSV
 * ----------------------------------------------------------------------------------------------------------- */

enum { MAX_COLUMNS = 64 };

struct csv {
    char *at, *end;
    char *field[MAX_COLUMNS];
    int n;
};

/* One field, in place: quotes are taken off and doubled ones undone. False: quoted text that goes on after its end or
 * never ends. */
static bool take_field(struct csv *c, char **field, bool *is_last)
{
    char *out;
    *field = out = c->at;
    if (c->at < c->end && *c->at == '"') {
        for (c->at++;; c->at++) {
            if (c->at == c->end)
                return false;
            if (*c->at == '"') {
                if (c->at + 1 < c->end && c->at[1] == '"')
                    c->at++;
                else
                    break;
            }
            *out++ = *c->at;
        }
        c->at++;
    } else {
        while (c->at < c->end && *c->at != ',' && *c->at != '\n')
            *out++ = *c->at++;
        while (out > *field && out[-1] == '\r')
            out--;
    }
    if (c->at < c->end && *c->at == '\r')
        c->at++;
    *is_last = c->at == c->end || *c->at == '\n';
    if (!*is_last && *c->at != ',')
        return false;
    c->at += c->at < c->end;
    *out = '\0'; /* the byte after a field is its separator, or the body's own NUL */
    return true;
}

static bool take_line(struct csv *c, struct err *e)
{
    bool is_last = false;
    for (c->n = 0; !is_last; c->n++) {
        if (c->n == MAX_COLUMNS)
            return err_set(e, ERR_INPUT, "the table has more than %d columns", MAX_COLUMNS);
        if (!take_field(c, &c->field[c->n], &is_last))
            return err_set(e, ERR_INPUT, "the table's quotes do not match");
    }
    return true;
}

enum column {
    COL_ID,
    COL_GRADE,
    COL_CLASS,
    COL_REASON,
    COL_NOTE,
    COL_BY,
    COL_PURPOSE,
    COL_DRAW,
    COL_SURE,
    COL_COUNT
};
static const char *const column_names[COL_COUNT] = {"bldg_id", "grade",   "dmg_class", "reason", "note",
                                                    "by",      "purpose", "draw",      "sure"};

static const char *field_of(const struct csv *c, const int column[COL_COUNT], enum column k)
{
    return column[k] >= 0 && column[k] < c->n ? c->field[column[k]] : "";
}

static bool read_row(const struct csv *c, const int column[COL_COUNT], struct label_row *row, struct err *e)
{
    const char *class = field_of(c, column, COL_GRADE), *purpose = field_of(c, column, COL_PURPOSE);
    const char *draw = field_of(c, column, COL_DRAW), *sure = field_of(c, column, COL_SURE);
    char *end;
    *row = (struct label_row){.is_sure = true, .reason = ""};
    grade(row, *class ? class : field_of(c, column, COL_CLASS), field_of(c, column, COL_REASON));
    if (*purpose && !store_purpose_parse(purpose, &row->purpose))
        blame(row, "/purpose", "purpose must be train or validate");
    row->draw = strtoll(draw, &end, 10);
    if (*draw && (*end || row->draw < 0 || row->draw > 1000000000)) {
        row->draw = 0;
        blame(row, "/draw", "draw must be a number from 1");
    }
    row->is_sure = strcmp(sure, "0") != 0 && strcasecmp(sure, "false") != 0;
    return keep(&row->bldg_id, field_of(c, column, COL_ID), e) &&
           keep(&row->note, field_of(c, column, COL_NOTE), e) &&
           keep(&row->by, field_of(c, column, COL_BY), e);
}

bool label_import_csv(const char *text, size_t size, struct label_rows *r, struct err *e)
{
    int column[COL_COUNT];
    struct csv c;
    *r = (struct label_rows){0};
    char *copy = mem_array(size + 1, 1, "the table", e);
    if (!copy)
        return false;
    memcpy(copy, text, size);
    c.at = copy + (size > 3 && memcmp(copy, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    c.end = copy + size;
    bool ok = !memchr(copy, 0, size) || err_set(e, ERR_INPUT, "the table holds a NUL byte");
    ok = ok && take_line(&c, e);
    for (int k = 0; ok && k < COL_COUNT; k++) {
        column[k] = -1;
        for (int i = 0; i < c.n; i++)
            if (strcasecmp(c.field[i], column_names[k]) == 0)
                column[k] = i;
    }
    if (ok && (column[COL_ID] < 0 || (column[COL_GRADE] < 0 && column[COL_CLASS] < 0)))
        ok = err_set(e, ERR_INPUT, "the table needs the columns bldg_id and grade (or dmg_class)");
    while (ok && c.at < c.end) {
        struct label_row *row = NULL;
        ok = take_line(&c, e);
        if (!ok || (c.n == 1 && !*c.field[0])) /* an empty line */
            continue;
        row = add_row(r, e);
        ok = row && read_row(&c, column, row, e);
    }
    free(copy);
    if (!ok)
        label_rows_free(r);
    return ok;
}
