/* SPDX-License-Identifier: Apache-2.0
 *
 * plot.c - the SVG of plot.h. Colours are Okabe and Ito's, which colour-blind readers can tell apart; a
 * legend beside the plot names the series, and each point carries its figures as a tooltip. */
#include "app/plot.h"

#include "models/base/file.h"
#include "models/base/markup.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 860, HEIGHT = 460, LEFT = 70, TOP = 46, RIGHT = 640, BOTTOM = 400, MAX_TICKS = 12 };

static const char *const colors[PLOT_MAX_SERIES] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                    "#e69f00", "#56b4e9", "#8c6d1f", "#444444",
                                                    "#7f3c8d", "#11a579", "#a00000", "#9a9a9a"};

struct axis {
    double low, high; /* of the data, or their logarithms */
    bool is_log;
    double tick[MAX_TICKS];
    int n_ticks;
};

/* Steps of 1, 2 or 5 times a power of ten, the data's range widened to whole steps. */
static void linear_ticks(struct axis *a)
{
    if (!(a->high > a->low)) {
        a->low -= 0.5;
        a->high += 0.5;
    }
    const double raw = (a->high - a->low) / 5, unit = pow(10, floor(log10(raw)));
    const double step = unit * (raw / unit < 1.5 ? 1 : raw / unit < 3.5 ? 2 : raw / unit < 7.5 ? 5 : 10);
    a->low = floor(a->low / step + 1e-9) * step;
    a->high = ceil(a->high / step - 1e-9) * step;
    for (int i = 0; i < MAX_TICKS && a->low + i * step <= a->high + step / 2; i++)
        a->tick[a->n_ticks++] = a->low + i * step;
}

/* 1, 2, 5 times powers of ten. */
static void log_ticks(struct axis *a)
{
    static const double leads[3] = {1, 2, 5};
    a->low = log10(a->low);
    a->high = log10(a->high);
    if (!(a->high - a->low > 0.3)) {
        a->low -= 0.2;
        a->high += 0.2;
    }
    for (int p = (int)floor(a->low); p <= (int)ceil(a->high); p++)
        for (int k = 0; k < 3; k++) {
            const double at = p + log10(leads[k]);
            if (at >= a->low - 1e-9 && at <= a->high + 1e-9 && a->n_ticks < MAX_TICKS)
                a->tick[a->n_ticks++] = at;
        }
}

static void widen(struct axis *a, double v)
{
    if (!isfinite(v))
        return;
    a->low = v < a->low ? v : a->low;
    a->high = v > a->high ? v : a->high;
}

static double place(const struct axis *a, double v, double from, double to)
{
    v = a->is_log ? log10(v) : v;
    return from + (v - a->low) / (a->high - a->low) * (to - from);
}

static void frame(FILE *f, const struct plot *p, const struct axis *x, const struct axis *y)
{
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<title>",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    markup_write_text(f, p->title);
    fprintf(f,
            "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n<text x=\"%d\" y=\"26\" "
            "font-size=\"16\" font-weight=\"600\">",
            WIDTH, HEIGHT, LEFT);
    markup_write_text(f, p->title);
    fputs("</text>\n<g stroke=\"#dddddd\">\n", f);
    for (int i = 0; i < y->n_ticks; i++) {
        const double at = BOTTOM + (y->tick[i] - y->low) / (y->high - y->low) * (TOP - BOTTOM);
        fprintf(f, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, RIGHT, at, at);
    }
    fprintf(f,
            "</g>\n<g stroke=\"#333333\"><line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/></g>\n<g "
            "fill=\"#333333\">\n",
            LEFT, RIGHT, BOTTOM, BOTTOM);
    for (int i = 0; i < y->n_ticks; i++)
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 8,
                BOTTOM + (y->tick[i] - y->low) / (y->high - y->low) * (TOP - BOTTOM) + 4, y->tick[i]);
    for (int i = 0; i < x->n_ticks; i++)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
                LEFT + (x->tick[i] - x->low) / (x->high - x->low) * (RIGHT - LEFT), BOTTOM + 20,
                x->is_log ? pow(10, x->tick[i]) : x->tick[i]);
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + RIGHT) / 2, BOTTOM + 44);
    markup_write_text(f, p->x_label);
    fprintf(f, "</text>\n<text x=\"18\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 18 %d)\">",
            (TOP + BOTTOM) / 2, (TOP + BOTTOM) / 2);
    markup_write_text(f, p->y_label);
    fputs("</text>\n</g>\n", f);
}

static bool drawable(const struct plot_series *s, int i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

static void band(FILE *f, const struct plot_series *s, const struct axis *x, const struct axis *y,
                 const char *color)
{
    int n = 0;
    for (int i = 0; s->low && i < s->n; i++)
        n += drawable(s, i) && isfinite(s->low[i]) && isfinite(s->high[i]);
    for (int i = 0; n == 1 && i < s->n; i++)
        if (drawable(s, i) && isfinite(s->low[i]) && isfinite(s->high[i]))
            fprintf(f,
                    "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"5\" "
                    "stroke-opacity=\"0.3\"/>\n",
                    place(x, s->x[i], LEFT, RIGHT), place(x, s->x[i], LEFT, RIGHT),
                    place(y, s->low[i], BOTTOM, TOP), place(y, s->high[i], BOTTOM, TOP), color);
    if (n < 2)
        return;
    fprintf(f, "<polygon fill=\"%s\" fill-opacity=\"0.14\" points=\"", color);
    for (int k = 0; k < 2 * s->n; k++) {
        const int i = k < s->n ? k : 2 * s->n - 1 - k;
        const double v = k < s->n ? s->low[i] : s->high[i];
        if (drawable(s, i) && isfinite(s->low[i]) && isfinite(s->high[i]))
            fprintf(f, "%.1f,%.1f ", place(x, s->x[i], LEFT, RIGHT), place(y, v, BOTTOM, TOP));
    }
    fputs("\"/>\n", f);
}

static void line(FILE *f, const struct plot_series *s, const struct axis *x, const struct axis *y,
                 const char *color)
{
    bool open = false;
    fprintf(f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s d=\"", color,
            s->dashed ? " stroke-dasharray=\"6 5\"" : "");
    for (int i = 0; i < s->n; i++) {
        if (drawable(s, i))
            fprintf(f, "%s%.1f %.1f ", open ? "L" : "M", place(x, s->x[i], LEFT, RIGHT),
                    place(y, s->y[i], BOTTOM, TOP));
        open = drawable(s, i);
    }
    fputs("\"/>\n", f);
    for (int i = 0; i < s->n; i++) {
        if (!drawable(s, i))
            continue;
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>",
                place(x, s->x[i], LEFT, RIGHT), place(y, s->y[i], BOTTOM, TOP), color);
        markup_write_text(f, s->name);
        fprintf(f, ": %.4g at %.6g", s->y[i], s->x[i]);
        if (s->low && isfinite(s->low[i]) && isfinite(s->high[i]))
            fprintf(f, " [%.4g, %.4g]", s->low[i], s->high[i]);
        fputs("</title></circle>\n", f);
    }
}

static void marks(FILE *f, const struct plot_series *s, const struct axis *x, const struct axis *y,
                  const char *color, const char *label)
{
    for (int i = 0; s->mark && i < s->n; i++) {
        if (!isfinite(s->x[i]) || !isfinite(s->mark[i]))
            continue;
        fprintf(f,
                "<path fill=\"#ffffff\" stroke=\"%s\" stroke-width=\"1.6\" d=\"M%.1f %.1fl5 5l-5 5l-5 "
                "-5z\"><title>",
                color, place(x, s->x[i], LEFT, RIGHT), place(y, s->mark[i], BOTTOM, TOP) - 5);
        markup_write_text(f, s->name);
        fprintf(f, ", ");
        markup_write_text(f, label ? label : "");
        fprintf(f, ": %.4g at %.6g</title></path>\n", s->mark[i], s->x[i]);
    }
}

static void mark_legend(FILE *f, const char *label, int row)
{
    const int at = TOP + 10 + 24 * row;
    fprintf(f,
            "<path fill=\"#ffffff\" stroke=\"#333333\" stroke-width=\"1.6\" d=\"M%d %dl5 5l-5 5l-5 "
            "-5z\"/>\n<text x=\"%d\" y=\"%d\">",
            RIGHT + 30, at - 5, RIGHT + 52, at + 4);
    markup_write_text(f, label);
    fputs("</text>\n", f);
}

static void legend(FILE *f, const struct plot_series *s, int row)
{
    const int at = TOP + 10 + 24 * row;
    fprintf(f,
            "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"2\"%s/>\n<text "
            "x=\"%d\" y=\"%d\">",
            RIGHT + 16, RIGHT + 44, at, at, colors[row], s->dashed ? " stroke-dasharray=\"6 5\"" : "",
            RIGHT + 52, at + 4);
    markup_write_text(f, s->name);
    fputs("</text>\n", f);
}

bool plot_write_svg(const char *path, const struct plot *p, struct err *e)
{
    struct axis x = {.low = INFINITY, .high = -INFINITY, .is_log = p->log_x},
                y = {.low = INFINITY, .high = -INFINITY};
    if (p->n_series < 1 || p->n_series > PLOT_MAX_SERIES)
        return err_set(e, ERR_USAGE, "%s: a plot shows 1 to %d lines, not %d", path, PLOT_MAX_SERIES,
                       p->n_series);
    for (int k = 0; k < p->n_series; k++) {
        const struct plot_series *s = &p->series[k];
        for (int i = 0; i < s->n; i++) {
            if (!drawable(s, i))
                continue;
            widen(&x, s->x[i]);
            widen(&y, s->y[i]);
            widen(&y, s->low ? s->low[i] : NAN);
            widen(&y, s->high ? s->high[i] : NAN);
            widen(&y, s->mark ? s->mark[i] : NAN);
        }
    }
    if (!(x.low <= x.high) || (p->log_x && x.low <= 0))
        return err_set(e, ERR_INPUT, "%s: there is no figure to draw", path);
    p->log_x ? log_ticks(&x) : linear_ticks(&x);
    linear_ticks(&y);
    struct file_out *out = file_out_open(path, e);
    if (!out)
        return false;
    FILE *f = file_out_stream(out);
    frame(f, p, &x, &y);
    for (int k = 0; k < p->n_series; k++)
        band(f, &p->series[k], &x, &y, colors[k]);
    for (int k = 0; k < p->n_series; k++) {
        line(f, &p->series[k], &x, &y, colors[k]);
        legend(f, &p->series[k], k);
    }
    for (int k = 0; k < p->n_series; k++)
        marks(f, &p->series[k], &x, &y, colors[k], p->mark_label);
    if (p->mark_label)
        mark_legend(f, p->mark_label, p->n_series);
    fputs("</svg>\n", f);
    return file_out_commit(out, e);
}
