/* SPDX-License-Identifier: Apache-2.0
 *
 * alignment_parts.h - what the files of `aftermap align` share: alignment.c runs, alignment_images.c plans and
 * reads windows of the post image, alignment_measure.c correlates, alignment_field.c decides,
 * alignment_write.c writes, alignment_report.c tells.
 *
 * Inside, shifts are in pixels of the working grid, x east, y DOWN (rows); everything is indexed by chip page. */
#ifndef AM_ALIGNMENT_PARTS_H
#define AM_ALIGNMENT_PARTS_H

#include "geo/alignment.h"
#include "geo/chips.h"
#include "geo/raster.h"

enum alignment_by { BY_NOBODY, BY_MEASURED, BY_NEIGHBOURS, BY_SKIPPED, BY_HAND };

struct alignment_item {
    uint32_t building;          /* index into ev->building */
    int x, y;                   /* the chip's north-west pixel on the working grid */
    double sx, sy, q;           /* the shift in px, and its confidence */
    double own_x, own_y, own_q; /* what the building alone says */
    uint8_t by;                 /* enum alignment_by */
};

/* Consecutive pages whose chips lie close together: one window is read for them. */
struct alignment_job {
    size_t first, n;
    int x0, y0, x1, y1; /* box of the chips' corners, inclusive */
};

struct alignment {
    struct event *ev;
    const struct alignment_options *o;
    const struct progress *p;
    struct raster_set set[2];
    double max_blank;
    size_t n;                    /* pages */
    struct alignment_item *item; /* [n] */
    struct alignment_job *job;
    size_t n_jobs;
    int reach_px, side;    /* shifts of -reach..reach are tried: side = 2 reach + 1 */
    int16_t *correlation;  /* [n,side,side] correlation * 32767; row = shift down */
    uint8_t *has_evidence; /* [n] 0: its surface is empty */
};

/* ---- alignment_images.c */

/* Checks (verify: by digest) and opens the images of the event; bands and max_blank as its manifest says. */
bool alignment_open_images(struct alignment *a, bool verify, struct err *e);
bool alignment_plan(struct alignment *a, struct err *e); /* item (place only) and job */
void alignment_corner(const struct event *ev, size_t building, int *x, int *y);

/* Post pixels around the chips of a job, `margin` px beyond them; one thread each. */
struct alignment_window {
    struct raster_reader *reader;
    int x, y, w, h; /* of the window now held */
    float *px;      /* [bands,h,w] in the source's units */
    uint8_t *valid; /* [h,w] */
    size_t room;
};
bool alignment_window_open(struct alignment_window *w, const struct raster_set *post,
                           const struct event_grid *grid, struct err *e);
bool alignment_window_read(struct alignment_window *w, int n_bands, int x0, int y0, int x1, int y1, int size,
                           int margin, struct err *e);
void alignment_window_close(struct alignment_window *w); /* accepts a zeroed one */

/* Cuts the post half of a chip whose corner is (x, y) out of the window, displaced by (sx, sy) px: whole
 * pixels are copied, fractions interpolated by cubic convolution (alignment_images.c). px [size,size,bands]
 * at a distance of px_stride bytes; valid [size,size] at valid_stride. Needs a margin of ceil(|s|) + 2. */
void alignment_cut(const struct alignment_window *w, const struct event *ev, int x, int y, double sx,
                   double sy, uint8_t *px, size_t px_stride, uint8_t *valid, size_t valid_stride);

/* ---- alignment_measure.c */

/* Gradient of a smoothed grey image [h,w]; zero within 3 px of what is not valid or not there. scratch [h,w].
 */
void alignment_gradient(float *grey, const uint8_t *valid, int w, int h, float *gx, float *gy,
                        float *scratch);

/* Correlation surface [side,side] of the gradient field p [size,size] under `weight` (0 or 1) with q, which
 * points to the pixel of the post field that lies `reach` px up and left of p's first; energy = qx^2 + qy^2.
 * sums: scratch of 2*side*(side+8) floats. False when there is nothing to match. */
bool alignment_correlate(const float *px, const float *py, const uint8_t *weight, int size, const float *qx,
                         const float *qy, const float *energy, size_t stride, int reach, float *sums,
                         float *surface);

/* Fills correlation and has_evidence. */
bool alignment_measure(struct alignment *a, struct err *e);

/* ---- alignment_field.c */

struct alignment_peak {
    double x, y;   /* px, relative to the middle, refined below a pixel */
    double margin; /* height above the next peak; 0 when it is at the rim */
};
/* apart_px: how far from the peak another one must lie to count as another. */
struct alignment_peak alignment_find_peak(const float *surface, int side, double apart_px);

/* From surfaces to sx, sy, q, own_* and by (measured, neighbours, skipped). Items set by hand keep theirs. */
bool alignment_decide(struct alignment *a, struct err *e);

/* ---- alignment_write.c */

/* Makes chips.tif, chips.gpkg and event.json anew and puts them in place together. by may become
 * BY_SKIPPED where the shifted chip would be too blank. With dry_run only that is found out. */
bool alignment_write(struct alignment *a, struct err *e);

/* ---- alignment_report.c */

void alignment_to_event(struct alignment *a);                    /* item -> ev->building */
bool alignment_export(const struct alignment *a, struct err *e); /* o->export_path */

/* alignment_run on a folder whose images were checked a moment ago. */
bool alignment_run_fresh(const char *dir, const struct alignment_options *o, const struct progress *p,
                         struct alignment_report *r, cJSON **summary, struct err *e);

#endif
