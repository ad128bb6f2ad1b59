/* SPDX-License-Identifier: Apache-2.0
 *
 * store_labels.c - the history of labels, what is current in it, and the validation sample. Declared in store.h.
 *
 * A writer first takes the assessment's row (store_lock_assessment), so rows get their numbers one writer after the
 * other, and what is current cannot change between the look at it and the new row, on SQLite and on PostgreSQL alike.
 *
 * Promise 4 of store.h is kept at two places and nowhere else: put_label() turns the purpose of a building of the
 * sample into validate, and put_train_only() leaves the sample out of every answer about training labels. */
#include "geo/store_parts.h"
#include "geo/vector.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double shift_max_m = 1000; /* as event.c */

static const char columns[] =
    "l.seq, l.previous, l.bldg_id, l.is_clear, l.dmg_level, l.reason, l.is_sure, l.note, "
    "l.has_shift, l.shift_x, l.shift_y, l.by_whom, l.purpose, l.draw, l.written";

const char *store_purpose_name(enum store_purpose p)
{
    return p == STORE_TRAIN ? "train" : "validate";
}

bool store_purpose_parse(const char *text, enum store_purpose *p)
{
    for (int k = STORE_TRAIN; k <= STORE_VALIDATE; k++)
        if (strcmp(text, store_purpose_name(k)) == 0) {
            *p = k;
            return true;
        }
    return false;
}

/* ---- reading
 * ------------------------------------------------------------------------------------------------------------- */

static void free_label(struct store_label *l)
{
    free(l->bldg_id);
    free(l->note);
    free(l->by);
}

void store_labels_free(struct store_labels *l)
{
    for (size_t i = 0; i < l->n; i++)
        free_label(&l->item[i]);
    free(l->item);
    *l = (struct store_labels){0};
}

static bool read_label(OGRFeatureH row, struct store_label *l, struct err *e)
{
    *l = (struct store_label){.seq = OGR_F_GetFieldAsInteger64(row, 0),
                              .previous = OGR_F_GetFieldAsInteger64(row, 1),
                              .is_clear = OGR_F_GetFieldAsInteger(row, 3) != 0,
                              .level = OGR_F_GetFieldAsInteger(row, 4),
                              .reason = event_reason_text(OGR_F_GetFieldAsString(row, 5)),
                              .is_sure = OGR_F_GetFieldAsInteger(row, 6) != 0,
                              .has_shift = OGR_F_GetFieldAsInteger(row, 8) != 0,
                              .shift_x = OGR_F_GetFieldAsDouble(row, 9),
                              .shift_y = OGR_F_GetFieldAsDouble(row, 10),
                              .draw = OGR_F_GetFieldAsInteger64(row, 13)};
    store_column_time(row, 14, l->time);
    bool ok = (l->bldg_id = store_column_text(row, 2, e)) && (l->note = store_column_text(row, 7, e)) &&
              (l->by = store_column_text(row, 11, e));
    if (ok && (!l->reason || l->level < -1 || l->level > 3 ||
               !store_purpose_parse(OGR_F_GetFieldAsString(row, 12), &l->purpose)))
        ok = err_set(e, ERR_RUNTIME, "row %lld of the labels is not one that aftermap writes",
                     (long long)l->seq);
    if (!ok)
        free_label(l);
    return ok;
}

/* Runs q and appends its rows. */
static bool read_rows(struct store_db *db, struct sql *q, struct store_labels *out, struct err *e)
{
    OGRLayerH rows = NULL;
    size_t room = out->n;
    bool ok = sql_query(db, q, &rows, e);
    for (OGRFeatureH row; ok && (row = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(row)) {
        if (out->n == room)
            ok = mem_grow(&out->item, room = room * 2 + 16, sizeof *out->item, "the labels", e);
        ok = ok && read_label(row, &out->item[out->n], e);
        out->n += ok;
    }
    sql_release(db, rows);
    return ok;
}

/* The last row of each building, cleared or not. */
static void put_current(struct sql *q, const char *what, const char *aid, const char *bldg_id)
{
    fprintf(q->out,
            "SELECT %s FROM labels l JOIN (SELECT bldg_id, MAX(seq) AS top FROM labels WHERE aid = ", what);
    sql_text(q, aid);
    if (bldg_id) {
        fputs(" AND bldg_id = ", q->out);
        sql_text(q, bldg_id);
    }
    fputs(" GROUP BY bldg_id) t ON l.bldg_id = t.bldg_id AND l.seq = t.top WHERE l.aid = ", q->out);
    sql_text(q, aid);
}

/* A condition on l: may be trained on. */
static void put_train_only(struct sql *q, const char *aid)
{
    fputs(" AND l.purpose = 'train' AND l.bldg_id NOT IN (SELECT bldg_id FROM sample WHERE aid = ", q->out);
    sql_text(q, aid);
    fputc(')', q->out);
}

static bool read_seq(struct store_db *db, const char *aid, int64_t *seq, struct err *e)
{
    struct sql q;
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT seq FROM assessment WHERE aid = ", q.out);
    sql_text(&q, aid);
    return sql_integer(db, &q, -1, seq, e) &&
           (*seq >= 0 || err_set(e, ERR_NOT_FOUND, "there is no assessment '%s'", aid));
}

static int compare_buildings(const void *a, const void *b)
{
    return strcmp(((const struct store_label *)a)->bldg_id, ((const struct store_label *)b)->bldg_id);
}

bool store_labels_read(struct store *s, const char *aid, enum store_purpose purpose, const char *bldg_id,
                       const char *by, struct store_labels *out, struct err *e)
{
    struct sql q;
    *out = (struct store_labels){0};
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = read_seq(db, aid, &out->seq, e) && sql_begin(&q, e);
    if (ok) {
        put_current(&q, columns, aid, bldg_id);
        fputs(" AND l.is_clear = 0", q.out);
        if (purpose == STORE_TRAIN)
            put_train_only(&q, aid);
        if (purpose == STORE_VALIDATE)
            fputs(" AND l.purpose = 'validate'", q.out);
        if (by) {
            fputs(" AND l.by_whom = ", q.out);
            sql_text(&q, by);
        }
        ok = read_rows(db, &q, out, e);
    }
    store_db_give(s, db);
    if (ok && out->n)
        qsort(out->item, out->n, sizeof *out->item, compare_buildings);
    if (!ok)
        store_labels_free(out);
    return ok;
}

bool store_labels_history(struct store *s, const char *aid, int64_t after, const char *bldg_id, size_t limit,
                          struct store_labels *out, struct err *e)
{
    struct sql q;
    *out = (struct store_labels){0};
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = read_seq(db, aid, &out->seq, e) && sql_begin(&q, e);
    if (ok) {
        fprintf(q.out, "SELECT %s FROM labels l WHERE l.seq > %lld AND l.aid = ", columns, (long long)after);
        sql_text(&q, aid);
        if (bldg_id) {
            fputs(" AND l.bldg_id = ", q.out);
            sql_text(&q, bldg_id);
        }
        fputs(" ORDER BY l.seq", q.out);
        if (limit)
            fprintf(q.out, " LIMIT %zu", limit);
        ok = read_rows(db, &q, out, e);
    }
    store_db_give(s, db);
    if (!ok)
        store_labels_free(out);
    return ok;
}

static bool count_rows(struct store_db *db, const char *aid, enum store_purpose p, struct store_counts *out,
                       struct err *e)
{
    struct sql q;
    OGRLayerH rows = NULL;
    if (!sql_begin(&q, e))
        return false;
    put_current(&q, "l.dmg_level AS dmg_level, COUNT(*) AS n", aid, NULL);
    fputs(" AND l.is_clear = 0", q.out);
    if (p == STORE_TRAIN)
        put_train_only(&q, aid);
    else
        fputs(" AND l.purpose = 'validate'", q.out);
    fputs(" GROUP BY l.dmg_level", q.out);
    if (!sql_query(db, &q, &rows, e))
        return false;
    for (OGRFeatureH row; (row = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(row)) {
        int level = OGR_F_GetFieldAsInteger(row, 0);
        size_t n = (size_t)OGR_F_GetFieldAsInteger64(row, 1);
        if (level < -1 || level > 3)
            continue; /* read_label() refuses such a row with a sentence */
        out->n[p][level + 1] += n;
        *(p == STORE_TRAIN ? &out->n_train : &out->n_validate) += n;
    }
    sql_release(db, rows);
    return true;
}

bool store_labels_count(struct store *s, const char *aid, struct store_counts *out, struct err *e)
{
    *out = (struct store_counts){0};
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = read_seq(db, aid, &out->seq, e) && count_rows(db, aid, STORE_TRAIN, out, e) &&
              count_rows(db, aid, STORE_VALIDATE, out, e);
    store_db_give(s, db);
    return ok;
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------------- */

static bool check_write(const struct store_write *w, struct err *e)
{
    if (!w->bldg_id || !*w->bldg_id)
        return err_set(e, ERR_INPUT, "a label names no building");
    if (!store_check_text(w->bldg_id, STORE_ID_MAX, "the building's id", e) ||
        (w->by && !store_check_text(w->by, STORE_BY_MAX, "the person's name", e)) ||
        (w->note && !store_check_text(w->note, STORE_NOTE_MAX, "the note", e)))
        return err_prefix(e, "building %.60s", w->bldg_id);
    if (w->is_clear)
        return true;
    const char *reason = w->reason ? w->reason : "";
    if (w->level < -1 || w->level > 3)
        return err_set(e, ERR_INPUT, "building %.60s: %d is no level of the damage scale", w->bldg_id,
                       w->level);
    if (!event_reason_text(reason))
        return err_set(e, ERR_INPUT, "building %.60s: '%.60s' is no reason that is known", w->bldg_id,
                       reason);
    if ((w->level < 0) != (*reason != '\0'))
        return err_set(e, ERR_INPUT, "building %.60s: %s", w->bldg_id,
                       w->level < 0 ? "a label without a level needs the reason why it cannot be told"
                                    : "a label has either a level or a reason");
    if (w->has_shift && !(fabs(w->shift_x) <= shift_max_m && fabs(w->shift_y) <= shift_max_m))
        return err_set(e, ERR_INPUT, "building %.60s: a shift is at most %g m", w->bldg_id, shift_max_m);
    if ((w->purpose != STORE_TRAIN && w->purpose != STORE_VALIDATE) || w->draw < 0)
        return err_set(e, ERR_INPUT, "building %.60s: a label is for training or for validation", w->bldg_id);
    return true;
}

static bool in_sample(struct store_db *db, const char *aid, const char *bldg_id, bool *found, int64_t *draw,
                      struct err *e)
{
    struct sql q;
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT draw FROM sample WHERE aid = ", q.out);
    sql_text(&q, aid);
    fputs(" AND bldg_id = ", q.out);
    sql_text(&q, bldg_id);
    if (!sql_integer(db, &q, -1, draw, e))
        return false;
    *found = *draw >= 0;
    return true;
}

static bool is_same(const struct store_label *l, const struct store_write *w)
{
    return l->level == w->level && strcmp(l->reason, w->reason ? w->reason : "") == 0 &&
           l->is_sure == w->is_sure && strcmp(l->note, w->note ? w->note : "") == 0 &&
           strcmp(l->by, w->by ? w->by : "") == 0 && l->has_shift == w->has_shift &&
           (!l->has_shift || (l->shift_x == w->shift_x && l->shift_y == w->shift_y)) &&
           l->purpose == w->stored && (!w->draw || l->draw == w->draw);
}

static bool insert_row(struct store_db *db, const char *aid, const struct store_write *w, int64_t draw,
                       int64_t previous, const char *now, struct err *e)
{
    struct sql q;
    const int level = w->is_clear ? -1 : w->level;
    const bool has_shift = w->has_shift && !w->is_clear;
    if (!sql_begin(&q, e))
        return false;
    fputs("INSERT INTO labels (aid, seq, previous, bldg_id, is_clear, dmg_level, dmg_class, reason, is_sure, "
          "note, "
          "has_shift, shift_x, shift_y, by_whom, purpose, draw, written) VALUES (",
          q.out);
    sql_text(&q, aid);
    fprintf(q.out, ",%lld,%lld,", (long long)w->seq, (long long)previous);
    sql_text(&q, w->bldg_id);
    fprintf(q.out, ",%d,%d,", w->is_clear, level);
    sql_text(&q, w->is_clear ? "" : event_level_name(level));
    fputc(',', q.out);
    sql_text(&q, w->is_clear || !w->reason ? "" : w->reason);
    fprintf(q.out, ",%d,", w->is_sure && !w->is_clear);
    sql_text(&q, w->note ? w->note : "");
    fprintf(q.out, ",%d,", has_shift);
    sql_real(&q, has_shift ? w->shift_x : 0);
    fputc(',', q.out);
    sql_real(&q, has_shift ? w->shift_y : 0);
    fputc(',', q.out);
    sql_text(&q, w->by ? w->by : "");
    fprintf(q.out, ",'%s',%lld,'%s')", store_purpose_name(w->stored), (long long)draw, now);
    return sql_run(db, &q, e);
}

/* One label inside a transaction. *seq: the assessment's last row, counted up when one is written. */
static bool put_label(struct store_db *db, const char *aid, struct store_write *w, int64_t *seq,
                      const char *now, struct err *e)
{
    struct store_labels rows = {0};
    struct sql q;
    bool is_drawn = false;
    int64_t draw = 0;
    if (!in_sample(db, aid, w->bldg_id, &is_drawn, &draw, e) || !sql_begin(&q, e))
        return false;
    put_current(&q, columns, aid, w->bldg_id);
    if (!read_rows(db, &q, &rows, e)) {
        store_labels_free(&rows);
        return false;
    }
    const struct store_label *last = rows.n ? &rows.item[0] : NULL;
    const struct store_label *now_there = last && !last->is_clear ? last : NULL;
    bool ok = true;
    w->seq = now_there ? now_there->seq : 0;
    w->stored = w->is_clear ? (last ? last->purpose : STORE_TRAIN) : is_drawn ? STORE_VALIDATE : w->purpose;
    bool is_met = w->expect == STORE_EXPECT_ANY || w->expect == w->seq ||
                  (w->expect == STORE_EXPECT_NOT_OTHERS &&
                   (!now_there || strcmp(now_there->by, w->by ? w->by : "") == 0));
    if (w->is_clear ? !now_there : now_there && is_same(now_there, w)) {
        w->outcome = STORE_UNCHANGED;
        w->stored = now_there ? now_there->purpose : w->stored;
    } else if (!is_met) {
        w->outcome = STORE_CONFLICTED;
        w->stored = now_there ? now_there->purpose : w->stored;
    } else {
        w->outcome = w->is_clear ? STORE_CLEARED : now_there ? STORE_CHANGED : STORE_CREATED;
        w->seq = ++*seq;
        if (w->stored == STORE_VALIDATE && !w->is_clear)
            ok = store_sample_put(db, aid, w->bldg_id, w->draw, 0, e);
        int64_t kept = w->is_clear ? 0 : w->draw ? w->draw : draw > 0 ? draw : 0;
        ok = ok && insert_row(db, aid, w, kept, now_there ? now_there->seq : 0, now, e);
    }
    store_labels_free(&rows);
    return ok;
}

bool store_labels_write(struct store *s, const char *aid, struct store_write *w, size_t n, struct err *e)
{
    char now[STORE_TIME_SIZE];
    int64_t seq = 0, first;
    struct sql q;
    if (!store_writable(s, e))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!check_write(&w[i], e))
            return false;
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    store_time_now(now);
    bool ok = store_lock_assessment(db, aid, &seq, e);
    first = seq;
    for (size_t i = 0; ok && i < n; i++)
        ok = put_label(db, aid, &w[i], &seq, now, e);
    if (ok && seq > first && (ok = sql_begin(&q, e))) {
        fprintf(q.out, "UPDATE assessment SET seq = %lld, updated = '%s' WHERE aid = ", (long long)seq, now);
        sql_text(&q, aid);
        ok = sql_run(db, &q, e) && sql_commit(db, e);
    }
    store_db_give(s, db); /* rolls back what was not committed */
    return ok;
}

bool store_label_write(struct store *s, const char *aid, struct store_write *w, struct err *e)
{
    if (!store_labels_write(s, aid, w, 1, e))
        return false;
    if (w->outcome == STORE_CONFLICTED)
        return err_set(e, ERR_CONFLICT,
                       "the label of building %.60s was changed by somebody else in the meantime",
                       w->bldg_id);
    if (w->is_clear && w->outcome == STORE_UNCHANGED)
        return err_set(e, ERR_NOT_FOUND, "building %.60s has no label", w->bldg_id);
    return true;
}

/* ---- handing on
 * ---------------------------------------------------------------------------------------------------------- */

bool store_labels_overlay(const struct store_labels *l, struct event *ev, size_t *n_matched, struct err *e)
{
    *n_matched = 0;
    struct store_label *sorted = mem_array(l->n, sizeof *sorted, "the labels", e);
    if (!sorted)
        return false;
    memcpy(sorted, l->item, l->n * sizeof *sorted);
    if (l->n)
        qsort(sorted, l->n, sizeof *sorted, compare_buildings);
    for (size_t i = 0; i < ev->n; i++) {
        struct event_building *b = &ev->building[i];
        const struct store_label key = {.bldg_id = (char *)b->bldg_id};
        const struct store_label *at =
            l->n ? bsearch(&key, sorted, l->n, sizeof *sorted, compare_buildings) : NULL;
        b->level = at && !at->is_clear ? (int16_t)at->level : -1;
        *n_matched += b->level >= 0;
    }
    free(sorted);
    return true;
}

static void put_csv(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

bool store_labels_csv(const struct store_labels *l, const char *path, struct err *e)
{
    struct file_out *f = file_out_open(path, e);
    if (!f)
        return false;
    FILE *out = file_out_stream(f);
    fputs("bldg_id,dmg_class,dmg_level,reason,sure,note,shift_x,shift_y,by,purpose,draw,seq,updated\n", out);
    for (size_t i = 0; i < l->n; i++) {
        const struct store_label *b = &l->item[i];
        if (b->is_clear)
            continue;
        put_csv(out, b->bldg_id);
        fprintf(out, ",%s,%d,%s,%d,", event_level_name(b->level), b->level, b->reason, b->is_sure);
        put_csv(out, b->note);
        if (b->has_shift)
            fprintf(out, ",%.3f,%.3f,", b->shift_x, b->shift_y);
        else
            fputs(",,,", out);
        put_csv(out, b->by);
        fprintf(out, ",%s,%lld,%lld,%s\n", store_purpose_name(b->purpose), (long long)b->draw,
                (long long)b->seq, b->time);
    }
    return file_out_commit(f, e);
}

/* ---- the validation sample
 * ----------------------------------------------------------------------------------------------- */

bool store_sample_put(struct store_db *db, const char *aid, const char *bldg_id, int64_t draw, int64_t seed,
                      struct err *e)
{
    char now[STORE_TIME_SIZE];
    struct sql q;
    store_time_now(now);
    if (!sql_begin(&q, e))
        return false;
    fputs("INSERT INTO sample (aid, bldg_id, draw, seed, written) VALUES (", q.out);
    sql_text(&q, aid);
    fputc(',', q.out);
    sql_text(&q, bldg_id);
    fprintf(q.out,
            ",%lld,%lld,'%s') ON CONFLICT (aid, bldg_id) DO UPDATE SET draw = excluded.draw, seed = "
            "excluded.seed "
            "WHERE sample.draw = 0",
            (long long)draw, (long long)seed, now);
    return sql_run(db, &q, e);
}

bool store_sample_add(struct store *s, const char *aid, const struct store_drawn *d, size_t n, struct err *e)
{
    int64_t seq;
    if (!store_writable(s, e))
        return false;
    for (size_t i = 0; i < n; i++)
        if (d[i].draw < 0 || !d[i].bldg_id || !*d[i].bldg_id ||
            !store_check_text(d[i].bldg_id, STORE_ID_MAX, "the building's id", e))
            return err_set(e, ERR_INPUT,
                           "a building drawn for validation has no usable id or place in the draw");
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = store_lock_assessment(db, aid, &seq, e);
    for (size_t i = 0; ok && i < n; i++)
        ok = store_sample_put(db, aid, d[i].bldg_id, d[i].draw, d[i].seed, e);
    ok = ok && sql_commit(db, e);
    store_db_give(s, db);
    return ok;
}

void store_sample_free(struct store_sample *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->item[i].bldg_id);
    free(l->item);
    *l = (struct store_sample){0};
}

static int compare_draws(const void *a_, const void *b_)
{
    const struct store_drawn *a = a_, *b = b_;
    if (a->draw != b->draw)
        return a->draw < b->draw ? -1 : 1;
    return strcmp(a->bldg_id, b->bldg_id);
}

bool store_sample_read(struct store *s, const char *aid, struct store_sample *out, struct err *e)
{
    struct sql q;
    OGRLayerH rows = NULL;
    size_t room = 0;
    int64_t seq;
    *out = (struct store_sample){0};
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = read_seq(db, aid, &seq, e) && sql_begin(&q, e);
    if (ok) {
        fputs("SELECT bldg_id, draw, seed, written FROM sample WHERE aid = ", q.out);
        sql_text(&q, aid);
        ok = sql_query(db, &q, &rows, e);
    }
    for (OGRFeatureH row; ok && (row = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(row)) {
        if (out->n == room)
            ok = mem_grow(&out->item, room = room * 2 + 16, sizeof *out->item, "the sample", e);
        if (ok) {
            struct store_drawn *d = &out->item[out->n];
            *d = (struct store_drawn){.draw = OGR_F_GetFieldAsInteger64(row, 1),
                                      .seed = OGR_F_GetFieldAsInteger64(row, 2)};
            store_column_time(row, 3, d->time);
            ok = (d->bldg_id = store_column_text(row, 0, e)) != NULL;
            out->n += ok;
        }
    }
    sql_release(db, rows);
    store_db_give(s, db);
    if (ok && out->n)
        qsort(out->item, out->n, sizeof *out->item, compare_draws);
    if (!ok)
        store_sample_free(out);
    return ok;
}
