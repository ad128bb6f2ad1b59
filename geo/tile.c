/* SPDX-License-Identifier: Apache-2.0
 *
 * tile.c - `aftermap tile`: from images and footprints to an event folder. Declared in tile.h.
 *
 *   images -> checked sets -> working CRS -> overlap of the dates -> footprints (or cells) -> grid and chip
 * corners
 *          -> scaling -> chips (tile_chips.c) -> spatial split -> index, manifest (tile_index.c) -> rename
 *
 * Invariants
 *   1. Chips lie on the pixels of one grid, whose corner is a multiple of the pixel size.
 *   2. A chip is kept when at most max_blank of it lacks data in either date; left out otherwise with reason
 * nodata: such a building keeps its row (and an analyst's label, if it has one) but is never shown to a model
 * nor called undamaged.
 *   3. The event appears whole under its name or not at all; an older event there stays until the new one is
 * complete, and only a folder that holds nothing but an event is ever replaced. */
#include "geo/alignment_parts.h"
#include "geo/event_files.h"
#include "geo/tile_parts.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIDE_MIN = 16, SIDE_MAX = 512, GRID_SIDE_MAX = 1 << 21 };
static const double point_side_m = 12; /* a small house */

void tile_defaults(struct tile_options *o)
{
    *o = (struct tile_options){.gsd_m = 0.5, .size_m = 32, .max_blank = 0.25};
    o->split = (struct split_options){.link_m = 77, .block_m = 100, .test_share = 0.3};
}

/* ---- the output folder
 * ------------------------------------------------------------------------------------------------ */

/* Removes what a (possibly half-made) event folder of ours holds, and the folder. */
static void remove_event(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    struct dirent *entry;
    while ((entry = readdir(d)))
        if (event_files_owns(entry->d_name))
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    rmdir(dir);
}

/* What --overwrite may replace: nothing but an event, so that no other file is ever lost with it. */
static bool check_replaceable(const char *dir, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, ERR_INPUT, errno, "%s cannot be looked into", dir);
    bool ok = true;
    struct dirent *entry;
    while (ok && (entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !event_files_owns(entry->d_name))
            ok = err_set(e, ERR_INPUT,
                         "%s holds %s, which is no part of an event, so the folder is not replaced; "
                         "choose another output folder",
                         dir, entry->d_name);
    }
    closedir(d);
    return ok;
}

static bool check_output(const struct tile_options *o, struct err *e)
{
    struct stat st;
    if (!o->out || !*o->out)
        return err_set(e, ERR_USAGE, "no output folder is given; name one with -o EVENT");
    if (lstat(o->out, &st) != 0)
        return true;
    if (!o->overwrite)
        return err_set(e, ERR_USAGE, "%s exists already; give --overwrite to replace it", o->out);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_INPUT, "%s is not a folder, so no event can take its place", o->out);
    return check_replaceable(o->out, e);
}

/* The path without slashes at its end, so that its sibling is not its child. */
static bool output_name(const char *out, char *name, size_t size, struct err *e)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        n--;
    int k = snprintf(name, size, "%.*s", (int)n, out);
    return k >= 0 && (size_t)k < size ? true : err_set(e, ERR_INPUT, "%s: the path is too long", out);
}

static bool publish(const char *temp, const char *out, struct err *e)
{
    if (!file_exists(out))
        return file_rename(temp, out, e);
    if (!check_replaceable(out, e))
        return false;
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, out, RENAME_EXCHANGE) == 0) {
        remove_event(temp);
        return true;
    }
    /* A file system without exchange: the old event moves aside for the moment between two renames. */
    char aside[4096];
    int n = snprintf(aside, sizeof aside, "%s.old-%ld", out, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof aside)
        return err_set(e, ERR_INPUT, "%s: the path is too long", out);
    if (rename(out, aside) != 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be replaced", out);
    if (!file_rename(temp, out, e)) {
        if (rename(aside, out) != 0)
            err_prefix(e, "the event that was there is now %s", aside);
        return false;
    }
    remove_event(aside);
    return true;
}

/* ---- options
 * ----------------------------------------------------------------------------------------------------------
 */

static bool check_options(const struct tile_options *o, struct imageset_layout *l, struct err *e)
{
    if (!(o->gsd_m >= 0.02 && o->gsd_m <= 100))
        return err_set(e, ERR_USAGE, "a pixel of %g m is out of range; --gsd takes 0.02 to 100 metres",
                       o->gsd_m);
    double side = o->size_m / o->gsd_m;
    int px = (int)fmin(fmax(floor(side + 0.5), 0), 1e6);
    if (!(fabs(side - px) < 1e-6) || px < SIDE_MIN || px > SIDE_MAX || px % 4)
        return err_set(e, ERR_USAGE,
                       "chips of %g m are %g pixels of %g m a side; choose --size-m and --gsd so that it is "
                       "a multiple of 4 from %d to %d",
                       o->size_m, side, o->gsd_m, SIDE_MIN, SIDE_MAX);
    if (!o->footprints && !(o->grid_m > 0))
        return err_set(e, ERR_USAGE, "give the buildings with --footprints, or cells with --grid METRES");
    if (o->footprints && o->grid_m > 0)
        return err_set(e, ERR_USAGE, "--footprints and --grid exclude each other");
    if (o->grid_m > 0 && !(o->grid_m >= o->gsd_m))
        return err_set(e, ERR_USAGE, "cells of %g m are smaller than a pixel", o->grid_m);
    if (!o->footprints && (o->label_field || o->id_field || o->layer))
        return err_set(e, ERR_USAGE, "labels, ids and layers come with --footprints, not with --grid");
    if (o->label_map && !o->label_field)
        return err_set(e, ERR_USAGE, "--label-map needs --label-field");
    if (!(o->max_blank >= 0 && o->max_blank < 1))
        return err_set(e, ERR_USAGE, "the blank share a chip may have lies from 0 to below 1, not at %g",
                       o->max_blank);
    *l = (struct imageset_layout){.size = px, .n_dates = 2, .has_masks = true, .use_footprint = true};
    return true;
}

/* ---- images
 * -----------------------------------------------------------------------------------------------------------
 */

static bool check_pair(const struct tiling *t, struct err *e)
{
    char note[700];
    const struct raster_file *a = t->set[0].file, *b = t->set[1].file;
    for (int i = 0; i < t->set[0].n; i++)
        for (int j = 0; j < t->set[1].n; j++)
            if (strcmp(a[i].path, b[j].path) == 0)
                return err_set(e, ERR_INPUT,
                               "%s is given both as pre and as post; nothing can have changed in it",
                               a[i].path);
    /* TIFF dates, "YYYY:MM:DD HH:MM:SS", sort as text. */
    if (strlen(a->date) == 19 && strlen(b->date) == 19 && strcmp(a->date, b->date) > 0) {
        snprintf(note, sizeof note, "the pre image is dated %s, after the post image's %s: are they swapped?",
                 a->date, b->date);
        progress_warn(t->p, note);
    }
    for (int d = 0; d < 2; d++)
        if (t->set[d].file->gsd_m > 2 * t->o->gsd_m) {
            snprintf(note, sizeof note,
                     "%s has pixels of %.2f m, coarser than the working grid's %.2f m; detail is not "
                     "gained by that",
                     t->set[d].file->path, t->set[d].file->gsd_m, t->o->gsd_m);
            progress_warn(t->p, note);
        }
    return true;
}

static bool find_overlap(struct tiling *t, struct err *e)
{
    OGRGeometryH pre = raster_locate(&t->set[0], t->grid.wkt, e);
    OGRGeometryH post = pre ? raster_locate(&t->set[1], t->grid.wkt, e) : NULL;
    if (post) {
        t->overlap = OGR_G_Intersection(pre, post);
        if (!t->overlap || OGR_G_Area(t->overlap) <= 0)
            err_set(e, ERR_INPUT,
                    "the pre and post images show no ground in common: %s lies around %.4f, %.4f and %s "
                    "around %.4f, %.4f (longitude, latitude)",
                    t->set[0].file->path, t->set[0].file->lon, t->set[0].file->lat, t->set[1].file->path,
                    t->set[1].file->lon, t->set[1].file->lat);
    }
    OGR_G_DestroyGeometry(pre);
    OGR_G_DestroyGeometry(post);
    return t->overlap && OGR_G_Area(t->overlap) > 0;
}

/* An image that a model made up shows what it has learnt, not what has happened. */
static bool check_observed(const struct tiling *t, struct err *e)
{
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < t->set[d].n && !t->o->allow_synthetic; i++)
            if (t->set[d].file[i].is_synthetic)
                return err_set(
                    e, ERR_INPUT,
                    "%s is marked SYNTHETIC: a model made it up, so it cannot show damage; give an "
                    "observed image, or --allow-synthetic for a trial that says so in all it makes",
                    t->set[d].file[i].path);
    return true;
}

static bool open_images(struct tiling *t, struct err *e)
{
    const struct tile_options *o = t->o;
    progress_report(t->p, "check", 0, 2, NULL);
    if (!raster_set_open(&t->set[0], "pre", o->pre, o->n_pre, e) ||
        !raster_set_open(&t->set[1], "post", o->post, o->n_post, e) || !check_observed(t, e) ||
        !raster_choose_bands(&t->set[0], &t->set[1], o->bands, e) || !check_pair(t, e))
        return false;
    progress_report(t->p, "check", 1, 2, NULL);
    t->layout.n_bands = t->set[0].n_bands;
    t->grid.gsd_m = o->gsd_m;
    t->grid.wkt = raster_pick_crs(&t->set[0], &t->set[1], e);
    return t->grid.wkt && find_overlap(t, e);
}

/* ---- grid
 * -------------------------------------------------------------------------------------------------------------
 */

/* Chip corners in pixels of an endless grid through the origin of the CRS, rows counted southwards. */
static bool corner_of(const struct tiling *t, const struct vector_footprint *f, double *column, double *row)
{
    *column = floor(f->x_m / t->grid.gsd_m - t->layout.size / 2.0 + 0.5);
    *row = floor(-f->y_m / t->grid.gsd_m - t->layout.size / 2.0 + 0.5);
    return fabs(*column) < 1e9 && fabs(*row) < 1e9;
}

static OGRGeometryH chip_square(const struct tiling *t, double column, double row)
{
    double g = t->grid.gsd_m, side = t->layout.size * g, x = column * g, y = -row * g;
    OGRGeometryH ring = OGR_G_CreateGeometry(wkbLinearRing), polygon = OGR_G_CreateGeometry(wkbPolygon);
    OGR_G_AddPoint_2D(ring, x, y);
    OGR_G_AddPoint_2D(ring, x + side, y);
    OGR_G_AddPoint_2D(ring, x + side, y - side);
    OGR_G_AddPoint_2D(ring, x, y - side);
    OGR_G_CloseRings(ring);
    OGR_G_AddGeometryDirectly(polygon, ring);
    return polygon;
}

static bool set_grid(struct tiling *t, double c0, double r0, double c1, double r1, struct err *e)
{
    double width = c1 - c0 + t->layout.size, height = r1 - r0 + t->layout.size, g = t->grid.gsd_m;
    if (width > GRID_SIDE_MAX || height > GRID_SIDE_MAX)
        return err_set(e, ERR_INPUT,
                       "the buildings spread over %.0f x %.0f pixels, more than the %d a side allowed; cut "
                       "the footprints or raise --gsd",
                       width, height, GRID_SIDE_MAX);
    t->grid.width = (int)width;
    t->grid.height = (int)height;
    memcpy(t->grid.geotransform, (double[]){c0 * g, g, 0, -r0 * g, 0, -g}, sizeof t->grid.geotransform);
    return true;
}

static bool plan_chips(struct tiling *t, struct err *e)
{
    double c0 = HUGE_VAL, r0 = HUGE_VAL, c1 = -HUGE_VAL, r1 = -HUGE_VAL, column, row;
    size_t n = 0;
    t->chip = mem_array(t->v.n, sizeof *t->chip, "the plan of chips", e);
    OGRPreparedGeometryH overlap = OGRCreatePreparedGeometry(t->overlap);
    for (size_t i = 0; t->chip && i < t->v.n; i++) {
        t->chip[i] = (struct tile_chip){.blank = 1, .page = -1, .block = -1, .split = IMAGESET_BUFFER};
        if (!corner_of(t, &t->v.item[i], &column, &row))
            continue;
        OGRGeometryH square = chip_square(t, column, row);
        t->chip[i].candidate = OGRPreparedGeometryIntersects(overlap, square);
        OGR_G_DestroyGeometry(square);
        if (!t->chip[i].candidate)
            continue;
        n++;
        c0 = fmin(c0, column);
        r0 = fmin(r0, row);
        c1 = fmax(c1, column);
        r1 = fmax(r1, row);
    }
    OGRDestroyPreparedGeometry(overlap);
    if (!t->chip)
        return false;
    if (n == 0)
        return err_set(e, ERR_INPUT,
                       "%s: all %zu footprints lie outside the ground that both dates show (a footprint lies "
                       "at %.4f, %.4f, the image at %.4f, %.4f)",
                       t->o->footprints ? t->o->footprints : "--grid", t->v.n, t->v.item[0].lon,
                       t->v.item[0].lat, t->set[0].file->lon, t->set[0].file->lat);
    if (!set_grid(t, c0, r0, c1, r1, e))
        return false;
    for (size_t i = 0; i < t->v.n; i++)
        if (t->chip[i].candidate) {
            corner_of(t, &t->v.item[i], &column, &row);
            t->chip[i].x = (int)(column - c0);
            t->chip[i].y = (int)(row - r0);
        }
    return true;
}

static bool measure_scaling(struct tiling *t, struct err *e)
{
    struct raster_reader *pre = raster_reader_open(&t->set[0], &t->grid, e);
    struct raster_reader *post = pre ? raster_reader_open(&t->set[1], &t->grid, e) : NULL;
    bool ok =
        post && scale_measure(pre, post, t->overlap, &t->grid, t->layout.n_bands, t->lo, t->hi, t->p, e);
    raster_reader_close(pre);
    raster_reader_close(post);
    return ok;
}

/* ---- split
 * ------------------------------------------------------------------------------------------------------------
 */

/* Splits the kept chips. A scene that cannot be split (one building, one cluster) is still good for
 * prediction: all of it becomes training ground, with a warning. */
static bool split_kept(struct tiling *t, struct err *e)
{
    const size_t n = t->n_pages;
    double diagonal = t->layout.size * t->grid.gsd_m * sqrt(2);
    t->split = t->o->split;
    t->split.buffer_m = fmax(t->split.buffer_m, diagonal);
    t->split.link_m = fmax(t->split.link_m, diagonal);
    double *x = mem_array(n, sizeof *x, "the split", e), *y = mem_array(n, sizeof *y, "the split", e);
    int16_t *level = mem_array(n, sizeof *level, "the split", e);
    int32_t *block = mem_array(n, sizeof *block, "the split", e);
    uint8_t *split = mem_array(n, 1, "the split", e);
    bool ok = x && y && level && block && split;
    size_t k = 0;
    for (size_t i = 0; ok && i < t->v.n; i++)
        if (t->chip[i].page >= 0) {
            x[k] = t->v.item[i].x_m;
            y[k] = t->v.item[i].y_m;
            level[k++] = t->v.item[i].level;
        }
    struct err why = {0};
    if (ok && !split_blocks(x, y, level, n, &t->split, block, split, &t->split_report, &why)) {
        if (why.code == ERR_INPUT) {
            char note[900];
            snprintf(note, sizeof note,
                     "no test set could be set apart (%s); every building counts as training", why.msg);
            progress_warn(t->p, note);
            memset(block, 0, n * sizeof *block);
            memset(split, IMAGESET_TRAIN, n);
            t->split_report = (struct split_report){.n_blocks = 1, .n_train = n};
        } else {
            ok = err_set(e, why.code, "%s", why.msg);
        }
    }
    for (size_t i = 0, j = 0; ok && i < t->v.n; i++)
        if (t->chip[i].page >= 0) {
            t->chip[i].block = block[j];
            t->chip[i].split = split[j++];
        }
    free(x);
    free(y);
    free(level);
    free(block);
    free(split);
    return ok;
}

static void fill_report(const struct tiling *t, struct tile_report *r)
{
    *r = (struct tile_report){.n_footprints = t->v.n,
                              .n_chips = t->n_pages,
                              .n_excluded = t->v.n - t->n_pages,
                              .n_repaired = t->v.n_repaired,
                              .grid_width = t->grid.width,
                              .grid_height = t->grid.height,
                              .n_blocks = t->split_report.n_blocks};
    for (size_t i = 0; i < t->v.n; i++) {
        if (t->chip[i].page < 0)
            continue;
        r->n_train += t->chip[i].split == IMAGESET_TRAIN;
        r->n_test += t->chip[i].split == IMAGESET_TEST;
        r->n_buffer += t->chip[i].split == IMAGESET_BUFFER;
        if (t->v.item[i].level >= 0) {
            r->n_labeled++;
            r->n_level[t->v.item[i].level]++;
        }
    }
}

/* ---- the run
 * ----------------------------------------------------------------------------------------------------------
 */

static bool get_footprints(struct tiling *t, struct err *e)
{
    const struct tile_options *o = t->o;
    if (!o->footprints)
        return vector_cells(&t->v, t->overlap, t->grid.wkt, o->grid_m, t->p, e);
    struct vector_options v = {o->footprints,  o->layer,     o->id_field,
                               o->label_field, o->label_map, point_side_m};
    return vector_read(&t->v, &v, t->grid.wkt, t->p, e);
}

/* Cuts, splits and, unless dir is NULL (a dry run), writes the event's files into dir. */
static bool make_event(struct tiling *t, const char *dir, struct tile_report *r, struct err *e)
{
    char path[4096];
    struct chips_writer *out = NULL;
    if (dir &&
        (!file_join(path, sizeof path, dir, "chips.tif", e) || !(out = chips_create(path, &t->layout, e))))
        return false;
    bool ok = (!dir || tile_digests_start(t, e)) && tile_cut_chips(t, out, e);
    if (ok && t->n_pages == 0)
        ok = err_set(
            e, ERR_INPUT,
            "each of the %zu chips is over %.0f %% blank in one of the dates: the images show no data "
            "where the footprints are",
            t->v.n, 100 * t->o->max_blank);
    if (!ok) {
        chips_abort(out);
        return false;
    }
    if (out && !chips_finish(out, e))
        return false;
    if (!split_kept(t, e))
        return false;
    fill_report(t, r);
    progress_report(t->p, "index", 0, 1, NULL);
    return !dir || (file_join(path, sizeof path, dir, "chips.gpkg", e) && tile_write_index(t, path, e) &&
                    tile_digests_end(t, e) && tile_write_manifest(t, dir, r, e));
}

static void tiling_free(struct tiling *t)
{
    if (t->digests.is_running) /* after a failure */
        tile_digests_end(t, NULL);
    tile_digests_free(t);
    raster_set_free(&t->set[0]);
    raster_set_free(&t->set[1]);
    vector_set_free(&t->v);
    OGR_G_DestroyGeometry(t->overlap);
    free(t->grid.wkt);
    free(t->chip);
}

bool tile_run_window(const struct tile_options *o, int window_px, const struct progress *p,
                     struct tile_report *r, struct err *e)
{
    struct tiling t = {.o = o, .p = p, .window_px = window_px};
    struct tile_report report = {0};
    char out[4096], temp[4096] = "";
    bool ok = check_options(o, &t.layout, e) && check_output(o, e) &&
              output_name(o->out, out, sizeof out, e) && file_temp_name(out, temp, sizeof temp, e),
         made = false;
    if (ok && !o->dry_run) {
        made = mkdir(temp, 0777) == 0;
        if (!made)
            ok = err_errno(e, ERR_RUNTIME, errno, "folder %s cannot be made", temp);
    }
    ok = ok && open_images(&t, e) && get_footprints(&t, e) && plan_chips(&t, e) && measure_scaling(&t, e) &&
         make_event(&t, o->dry_run ? NULL : temp, &report, e);
    if (ok && o->align && !o->dry_run)
        ok = alignment_run_fresh(temp, o->align, p, &report.alignment, NULL, e);
    if (ok && progress_stopped(p))
        ok = err_set(e, ERR_INTERRUPTED, "interrupted");
    if (ok && !o->dry_run)
        ok = publish(temp, out, e);
    if (!ok && made)
        remove_event(temp);
    if (ok) {
        progress_report(p, "index", 1, 1, NULL);
        if (r)
            *r = report;
    }
    tiling_free(&t);
    return ok;
}

bool tile_run(const struct tile_options *o, const struct progress *p, struct tile_report *r, struct err *e)
{
    return tile_run_window(o, TILE_WINDOW_PX, p, r, e);
}
