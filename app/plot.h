/* SPDX-License-Identifier: Apache-2.0
 *
 * plot.h - a line plot with intervals as one self-contained SVG file: what learning curves and experiments
 * are shown with. */
#ifndef AM_PLOT_H
#define AM_PLOT_H

#include "models/base/err.h"

struct plot_series {
    const char *name;
    int n;
    const double *x, *y;      /* [n]; points that are not finite break the line */
    const double *low, *high; /* [n] drawn as a band, a single point as a bar; NULL: none */
    const double *mark;       /* [n] drawn as hollow diamonds: what others found there; NULL: none */
    bool dashed;
};

enum { PLOT_MAX_SERIES = 12 };

struct plot {
    const char *title, *x_label, *y_label;
    const char *mark_label; /* what the diamonds are; NULL: there are none */
    bool log_x;             /* all x above 0 */
    const struct plot_series *series;
    int n_series;
};

bool plot_write_svg(const char *path, const struct plot *p, struct err *e);

#endif
