/* SPDX-License-Identifier: Apache-2.0
 *
 * report.c - writes the document of report.h. All styling is in one style element; the classes carry a letter
 * beside their colour, so that a photocopy or a reader who cannot tell the colours still can. */
#include "geo/mapping.h"
#include "geo/report_parts.h"

#include "geo/mapping_parts.h"
#include "models/base/file.h"
#include "models/base/markup.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <cpl_string.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, BAR_WIDTH = 210 };

static const enum report_word class_word[TOTALS_CLASSES] = {WORD_NONE, WORD_MINOR, WORD_MAJOR, WORD_DESTROYED,
                                                            WORD_UNKNOWN};
static const char *const class_letter[TOTALS_CLASSES] = {"N", "m", "M", "D", "?"};

struct page {
    FILE *f;
    const struct report_options *o;
    const struct totals_report *t;
    enum report_lang lang;
};

void report_defaults(struct report_options *o)
{
    *o = (struct report_options){.picture_px = 1000};
}

static const char *text_of(const cJSON *j, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
    return s ? s : "";
}

/* ---- writing */

/* Text of a file may be in any encoding: what is no UTF-8 loses the letters that are not ASCII. */
static void escaped(FILE *f, const char *s)
{
    char *ascii = CPLIsUTF8(s, -1) ? NULL : CPLForceToASCII(s, -1, '_');
    markup_write_text(f, ascii ? ascii : s);
    CPLFree(ascii);
}

static const char *word(const struct page *p, enum report_word w)
{
    return report_word(p->lang, w);
}

/* A text with {0} .. {4} filled in; the arguments are escaped and keep their own direction. */
static void filled(const struct page *p, enum report_word w, const char *const *arg, int n)
{
    const char *s = word(p, w);
    while (*s) {
        const size_t plain = strcspn(s, "{");
        markup_write(p->f, s, plain);
        s += plain;
        if (s[0] == '{' && s[1] >= '0' && s[1] < '0' + n && s[2] == '}') {
            fputs("<bdi>", p->f);
            escaped(p->f, arg[s[1] - '0']);
            fputs("</bdi>", p->f);
            s += 3;
        } else if (*s)
            markup_write(p->f, s++, 1);
    }
}

/* The same with numbers. */
static void filled_numbers(const struct page *p, enum report_word w, const double *v, const int *decimals,
                           int n)
{
    char text[5][40];
    const char *arg[5];
    for (int i = 0; i < n; i++) {
        report_number(p->lang, v[i], decimals[i], text[i]);
        arg[i] = text[i];
    }
    filled(p, w, arg, n);
}

static void number_cell(const struct page *p, double v, int decimals, const char *unit)
{
    char text[40];
    report_number(p->lang, v, decimals, text);
    fprintf(p->f, "<td class=n><bdi>%s%s</bdi></td>", text, unit);
}

static void range_cell(const struct page *p, double low, double high, int decimals)
{
    const double v[2] = {low, high};
    const int d[2] = {decimals, decimals};
    fputs("<td class=n>", p->f);
    filled_numbers(p, WORD_TO, v, d, 2);
    fputs("</td>", p->f);
}

static void header_cells(const struct page *p, const enum report_word *w, int n)
{
    const double level = 100 * p->t->level;
    const int d = level == floor(level) ? 0 : 1;
    fputs("<thead><tr>", p->f);
    for (int i = 0; i < n; i++) {
        fprintf(p->f, "<th scope=col%s>", i ? " class=n" : "");
        filled_numbers(p, w[i], &level, &d, 1);
        fputs("</th>", p->f);
    }
    fputs("<td></td></tr></thead>\n", p->f);
}

/* An interval on an axis from 0 to `most`: a bar between the bounds, a mark at the estimate. */
static void bar_cell(const struct page *p, const struct totals_total *t, double most, const char *color)
{
    const double unit = most > 0 ? (BAR_WIDTH - 12) / most : 0, low = 6 + t->low * unit,
                 high = 6 + t->high * unit;
    fprintf(p->f,
            "<td class=bar><svg width=\"%d\" height=\"16\" viewBox=\"0 0 %d 16\" aria-hidden=\"true\"><line "
            "x1=\"6\" "
            "x2=\"%d\" y1=\"8\" y2=\"8\" class=axis /><rect x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"8\" "
            "fill=\"%s\" "
            "stroke=\"#333\"/><line x1=\"%.1f\" x2=\"%.1f\" y1=\"1\" y2=\"15\" class=mark /></svg></td>",
            BAR_WIDTH, BAR_WIDTH, BAR_WIDTH - 6, low, fmax(1, high - low), color, 6 + t->estimate * unit,
            6 + t->estimate * unit);
}

/* ---- sections */

static void heading(const struct page *p, enum report_word w)
{
    fputs("<h2>", p->f);
    escaped(p->f, word(p, w));
    fputs("</h2>\n", p->f);
}

static void head(const struct page *p)
{
    static const char *const code[REPORT_LANGS] = {"en", "fr", "es", "ar"};
    const char *title = p->o->title && *p->o->title ? p->o->title : word(p, WORD_TITLE);
    fprintf(p->f,
            "<!DOCTYPE html>\n<html lang=\"%s\" dir=\"%s\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
            "name=\"viewport\" "
            "content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n<title>",
            code[p->lang], p->lang == REPORT_AR ? "rtl" : "ltr");
    escaped(p->f, title);
    fprintf(
        p->f,
        "</title>\n<style>\n@page{size:%s;margin:16mm}\nbody{font:11pt/1.45 system-ui,'Noto Sans','DejaVu "
        "Sans',Arial,sans-serif;color:#111;background:#fff;max-width:%s;margin:1.5em auto;padding:0 1em}\n"
        "h1{font-size:20pt;margin:0 0 .2em}h2{font-size:13pt;margin:1.4em 0 .4em;border-bottom:1px solid "
        "#999;"
        "break-after:avoid}\n.lead{font-size:14pt;margin:.3em "
        "0}\ntable{border-collapse:collapse;width:100%%;margin:"
        ".4em 0}\nth,td{padding:.22em .5em;border-bottom:1px solid "
        "#ccc;text-align:start;vertical-align:middle}\n"
        ".n{text-align:end;white-space:nowrap}.name{white-space:nowrap}[dir=rtl] .bar "
        "svg{transform:scaleX(-1)}"
        ".bar{width:%dpx}\ntr{break-inside:avoid}\nthead{display:"
        "table-header-group}\ntr.total "
        "td{font-weight:600}\n.key{display:inline-block;width:1.3em;height:1.3em;"
        "line-height:1.3em;text-align:center;border:1px solid #333;margin-inline-end:.5em;font-weight:700;"
        "print-color-adjust:exact;-webkit-print-color-adjust:exact}\nfigure{margin:.5em 0;break-inside:avoid}"
        "figure img{max-width:100%%;max-height:200mm;border:1px solid "
        "#666}\nfigcaption,.small{font-size:9pt;color:"
        "#333}\ncode{font-size:8.5pt;overflow-wrap:anywhere;direction:ltr;unicode-bidi:isolate}\n.axis{"
        "stroke:#999}."
        "mark{stroke:#000;stroke-width:2}\nsvg "
        "rect{print-color-adjust:exact;-webkit-print-color-adjust:exact}\n"
        ".sign{display:flex;gap:3em;margin-top:2em;break-inside:avoid}.sign div{flex:1;border-top:1px solid "
        "#333;"
        "padding-top:.3em}\n@media "
        "print{body{margin:0;max-width:none;padding:0}}\n</style>\n</head>\n<body>\n<header>"
        "<h1><bdi>",
        p->o->letter ? "letter" : "A4", p->o->letter ? "8in" : "190mm", BAR_WIDTH);
    escaped(p->f, title);
    fputs("</bdi></h1>\n", p->f);
    if (p->o->organisation && *p->o->organisation) {
        fputs("<p><bdi>", p->f);
        escaped(p->f, p->o->organisation);
        fputs("</bdi></p>\n", p->f);
    }
    fputs("</header>\n<main>\n", p->f);
}

static void summary(const struct page *p)
{
    const struct totals_area *w = &p->t->whole;
    const double N = w->n_buildings, level = 100 * p->t->level;
    const double v[5] = {round(w->damaged.estimate), N, level, w->damaged.low, w->damaged.high};
    const int d[5] = {0, 0, level == floor(level) ? 0 : 1, 0, 0};
    char share[3][40];
    heading(p, WORD_SUMMARY);
    fputs("<p class=lead>", p->f);
    filled_numbers(p, WORD_HEADLINE, v, d, 5);
    fputs("</p>\n<p>", p->f);
    report_number(p->lang, 100 * w->damaged.estimate / N, 1, share[0]);
    report_number(p->lang, 100 * w->damaged.low / N, 1, share[1]);
    report_number(p->lang, 100 * w->damaged.high / N, 1, share[2]);
    const char *arg[4] = {share[0], share[1], share[2], word(p, class_word[p->t->cut])};
    filled(p, WORD_HEADLINE_SHARE, arg, 4);
    fputs("</p>\n", p->f);
}

static void key_of(const struct page *p, int level, const char *letter)
{
    fprintf(p->f, "<span class=key style=\"background:%s;color:%s\">%s</span>", mapping_level_color(level),
            level == 3 ? "#fff" : "#000", letter);
}

static void class_row(const struct page *p, const struct totals_total *t, enum report_word name, int level,
                      const char *letter, bool total)
{
    const double N = p->t->whole.n_buildings;
    fprintf(p->f, "<tr%s><td class=name>", total ? " class=total" : "");
    if (letter)
        key_of(p, level, letter);
    escaped(p->f, word(p, name));
    fputs("</td>", p->f);
    number_cell(p, t->n_sampled, 0, "");
    number_cell(p, round(t->estimate), 0, "");
    range_cell(p, t->low, t->high, 0);
    number_cell(p, 100 * t->estimate / N, 1, " %");
    bar_cell(p, t, N, total ? "#666" : mapping_level_color(level));
    fputs("</tr>\n", p->f);
}

static void classes(const struct page *p)
{
    static const enum report_word columns[] = {WORD_CLASS, WORD_GRADED, WORD_ESTIMATE, WORD_INTERVAL,
                                               WORD_SHARE};
    heading(p, WORD_BY_CLASS);
    fputs("<table>", p->f);
    header_cells(p, columns, 5);
    fputs("<tbody>\n", p->f);
    class_row(p, &p->t->whole.damaged, WORD_DAMAGED, 0, NULL, true);
    for (int k = 0; k < TOTALS_CLASSES; k++)
        class_row(p, &p->t->whole.of_class[k], class_word[k], k < TOTALS_UNKNOWN ? k : -1, class_letter[k],
                  false);
    fputs("</tbody></table>\n", p->f);
}

static void zone_row(const struct page *p, const struct totals_area *a, double most)
{
    fputs("<tr><td><bdi>", p->f);
    escaped(p->f, a->outside                      ? word(p, WORD_OUTSIDE)
                  : a->zone_name && *a->zone_name ? a->zone_name
                                                  : a->zone_id);
    fputs("</bdi>", p->f);
    if (!a->outside && a->zone_name && *a->zone_name) {
        fputs(" <span class=small><bdi>", p->f);
        escaped(p->f, a->zone_id);
        fputs("</bdi></span>", p->f);
    }
    fputs("</td>", p->f);
    number_cell(p, a->n_buildings, 0, "");
    number_cell(p, a->n_sampled, 0, "");
    if (*a->refused) {
        const double v[2] = {a->n_sampled, fmin(TOTALS_MIN_SAMPLE, a->n_buildings)};
        const int d[2] = {0, 0};
        fputs("<td colspan=3>", p->f);
        filled_numbers(p, v[0] < v[1] ? WORD_TOO_FEW : WORD_GAP, v, d, 2);
        fputs("</td></tr>\n", p->f);
        return;
    }
    number_cell(p, round(a->damaged.estimate), 0, "");
    range_cell(p, a->damaged.low, a->damaged.high, 0);
    bar_cell(p, &a->damaged, most, "#e34a33");
    fputs("</tr>\n", p->f);
}

static void zones(const struct page *p)
{
    static const enum report_word columns[] = {WORD_ZONE, WORD_BUILDINGS, WORD_GRADED, WORD_ESTIMATE,
                                               WORD_INTERVAL};
    double most = 1;
    if (p->t->n_zones == 0)
        return;
    for (int i = 0; i < p->t->n_zones; i++)
        most = *p->t->zone[i].refused ? most : fmax(most, p->t->zone[i].damaged.high);
    heading(p, WORD_BY_ZONE);
    fputs("<table>", p->f);
    header_cells(p, columns, 5);
    fputs("<tbody>\n", p->f);
    for (int i = 0; i < p->t->n_zones; i++)
        zone_row(p, &p->t->zone[i], most);
    fputs("</tbody></table>\n", p->f);
}

static bool picture(const struct page *p, const cJSON *run, struct err *e)
{
    static const enum report_word seen[TOTALS_CLASSES] = {WORD_SEE_NONE, WORD_SEE_MINOR, WORD_SEE_MAJOR,
                                                          WORD_SEE_DESTROYED, WORD_SEE_UNKNOWN};
    int w, h;
    bool has_image;
    char *jpeg = NULL;
    if (p->o->picture_px > 0) {
        const cJSON *grid =
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "event"), "grid");
        const double wide = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(grid, "width")) *
                            cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(grid, "gsd_m"));
        const int d = 0;
        if (!(jpeg = report_picture(p->o->map_dir, run, p->o->picture_px, &w, &h, &has_image, e)))
            return false;
        heading(p, WORD_MAP);
        fprintf(p->f, "<figure><img width=\"%d\" height=\"%d\" style=\"height:auto\" alt=\"", w, h);
        escaped(p->f, word(p, WORD_MAP));
        fputs("\" src=\"data:image/jpeg;base64,", p->f);
        fputs(jpeg, p->f);
        fputs("\"><figcaption>", p->f);
        filled_numbers(p, has_image ? WORD_MAP_CAPTION : WORD_MAP_NO_IMAGE, &wide, &d, 1);
        fputs("</figcaption></figure>\n", p->f);
        free(jpeg);
    }
    const bool binary = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(run, "binary"));
    heading(p, WORD_LEGEND);
    fputs("<table><tbody>\n", p->f);
    for (int k = 0; k < TOTALS_CLASSES; k++) {
        fputs("<tr><td>", p->f);
        key_of(p, k < TOTALS_UNKNOWN ? k : -1, class_letter[k]);
        escaped(p->f, word(p, class_word[k]));
        if (binary && (k == 0 || k == p->t->cut)) { /* such a map knows two classes, drawn in these colours */
            fputs(" <span class=small>(", p->f);
            escaped(p->f, word(p, WORD_MAP));
            fputs(": ", p->f);
            escaped(p->f, word(p, k == 0 ? WORD_UNDAMAGED : WORD_DAMAGED));
            fputs(")</span>", p->f);
        }
        fputs("</td><td>", p->f);
        escaped(p->f, word(p, seen[k]));
        fputs("</td></tr>\n", p->f);
    }
    fputs("</tbody></table>\n", p->f);
    return true;
}

static void accuracy(const struct page *p)
{
    static const int one[3] = {1, 1, 1};
    const struct totals_share *s[2] = {&p->t->precision, &p->t->recall};
    heading(p, WORD_ACCURACY);
    for (int i = 0; i < 2; i++) {
        const double v[3] = {100 * s[i]->value, 100 * s[i]->low, 100 * s[i]->high};
        if (!isfinite(s[i]->value))
            continue;
        fputs("<p>", p->f);
        filled_numbers(p, i ? WORD_RECALL : WORD_PRECISION, v, one, 3);
        fputs("</p>\n", p->f);
    }
    if (!isfinite(s[0]->value) && !isfinite(s[1]->value)) {
        fputs("<p>", p->f);
        escaped(p->f, word(p, WORD_CANNOT_TELL));
        fputs("</p>\n", p->f);
    }
}

static const cJSON *images_of(const cJSON *run, int date)
{
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(run, "event");
    return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(event, "inputs"),
                                            date ? "post" : "pre");
}

static void imagery(const struct page *p, const cJSON *run)
{
    static const enum report_word columns[] = {WORD_IMAGERY, WORD_FILE, WORD_DATE, WORD_RESOLUTION};
    heading(p, WORD_IMAGERY);
    fputs("<table>", p->f);
    header_cells(p, columns, 4);
    fputs("<tbody>\n", p->f);
    for (int date = 0; date < 2; date++) {
        const cJSON *image;
        cJSON_ArrayForEach(image, images_of(run, date))
        {
            const char *when = text_of(image, "date");
            const double gsd = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(image, "gsd_m"));
            fputs("<tr><td>", p->f);
            escaped(p->f, word(p, date ? WORD_AFTER : WORD_BEFORE));
            fputs("</td><td class=n><bdi>", p->f);
            escaped(p->f, file_base(text_of(image, "path")));
            fputs("</bdi></td><td class=n><bdi>", p->f);
            escaped(p->f, *when ? when : word(p, WORD_NOT_KNOWN));
            fputs("</bdi></td>", p->f);
            if (isfinite(gsd))
                number_cell(p, gsd, 2, "");
            else
                fputs("<td></td>", p->f);
            fputs("<td></td></tr>\n", p->f);
        }
    }
    fputs("</tbody></table>\n", p->f);
}

static void method(const struct page *p)
{
    static const enum report_word limit[] = {WORD_LIMIT_IMAGES, WORD_LIMIT_ROOFS,      WORD_LIMIT_GRADES,
                                             WORD_LIMIT_SINGLE, WORD_LIMIT_FOOTPRINTS, WORD_LIMIT_ZONES};
    const double level = 100 * p->t->level;
    const int d = level == floor(level) ? 0 : 1, whole[3] = {0};
    const double sample[3] = {p->t->n_graded, p->t->whole.n_buildings, p->t->n_unknown};
    const char *from = word(p, class_word[p->t->cut]);
    heading(p, WORD_METHOD);
    fputs("<p>", p->f);
    filled_numbers(p, WORD_METHOD_SAMPLE, sample, whole, 3);
    if (p->t->stratified_by) {
        const char *by = p->t->stratified_by;
        fputs(" ", p->f);
        filled(p, WORD_METHOD_STRATA, &by, 1);
    }
    fputs("</p>\n<p>", p->f);
    filled_numbers(p, p->t->method == TOTALS_EXACT ? WORD_METHOD_EXACT : WORD_METHOD_ASSISTED, &level, &d, 1);
    fputs("</p>\n<p>", p->f);
    filled(p, WORD_SCALE, &from, 1);
    fputs("</p>\n", p->f);
    heading(p, WORD_LIMITS);
    fputs("<ul>\n", p->f);
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        if (limit[i] == WORD_LIMIT_ZONES && p->t->n_zones == 0)
            continue;
        fputs("<li>", p->f);
        escaped(p->f, word(p, limit[i]));
        fputs("</li>\n", p->f);
    }
    fputs("</ul>\n", p->f);
}

static void provenance_row(const struct page *p, const char *name, const char *value)
{
    if (!*value)
        return;
    fputs("<tr><td>", p->f);
    escaped(p->f, name);
    fputs("</td><td><code>", p->f);
    escaped(p->f, value);
    fputs("</code></td></tr>\n", p->f);
}

static void provenance(const struct page *p, const cJSON *run)
{
    const cJSON *file;
    heading(p, WORD_PROVENANCE);
    fputs("<table><tbody>\n", p->f);
    provenance_row(p, word(p, WORD_VERSION), "aftermap " AM_VERSION);
    provenance_row(p, word(p, WORD_RUN), p->t->run_id);
    provenance_row(p, word(p, WORD_CREATED), p->t->created);
    provenance_row(p, word(p, WORD_MODEL), p->t->model_digest);
    provenance_row(p, word(p, WORD_EVENT), p->t->event_digest);
    cJSON_ArrayForEach(file, cJSON_GetObjectItemCaseSensitive(run, "outputs"))
        provenance_row(p, text_of(file, "name"), text_of(file, "sha256"));
    fputs("</tbody></table>\n<div class=sign><div>", p->f);
    escaped(p->f, word(p, WORD_REVIEWED));
    if (p->o->reviewed_by && *p->o->reviewed_by) {
        fputs(": ", p->f);
        escaped(p->f, p->o->reviewed_by);
    }
    fputs("</div><div>", p->f);
    escaped(p->f, word(p, WORD_SIGNATURE));
    fputs("</div></div>\n", p->f);
}

static bool usable(const struct report_options *o, struct err *e)
{
    const char *const given[3] = {o->title, o->organisation, o->reviewed_by};
    for (int i = 0; i < 3; i++)
        if (given[i] && !CPLIsUTF8(given[i], -1))
            return err_set(e, ERR_USAGE, "title, organisation and reviewer must be UTF-8 text");
    return o->totals->has_sample ||
           err_set(e, ERR_INPUT, "a report needs a graded random sample; draw one with 'aftermap sample'");
}

bool report_html(FILE *f, const struct report_options *o, struct err *e)
{
    const struct page p = {f, o, o->totals, o->lang};
    cJSON *run = usable(o, e) ? mapping_run_read(o->map_dir, e) : NULL;
    if (!run)
        return false;
    head(&p);
    summary(&p);
    classes(&p);
    zones(&p);
    const bool ok = picture(&p, run, e);
    accuracy(&p);
    imagery(&p, run);
    method(&p);
    provenance(&p, run);
    fputs("</main>\n</body>\n</html>\n", f);
    cJSON_Delete(run);
    return ok;
}

cJSON *report_json(const struct report_options *o, struct err *e)
{
    static const char *const phase[2] = {"pre", "post"};
    static const enum report_word limit[] = {WORD_LIMIT_IMAGES, WORD_LIMIT_ROOFS, WORD_LIMIT_GRADES,
                                             WORD_LIMIT_SINGLE, WORD_LIMIT_FOOTPRINTS};
    cJSON *run = usable(o, e) ? mapping_run_read(o->map_dir, e) : NULL;
    if (!run)
        return NULL;
    cJSON *j = cJSON_CreateObject();
    const cJSON *item;
    cJSON_AddStringToObject(j, "kind", "damage report");
    cJSON_AddNumberToObject(j, "format", 1);
    cJSON_AddStringToObject(j, "version", AM_VERSION);
    cJSON_AddStringToObject(j, "title", o->title && *o->title ? o->title : report_word(o->lang, WORD_TITLE));
    if (o->organisation && *o->organisation)
        cJSON_AddStringToObject(j, "organisation", o->organisation);
    if (o->reviewed_by && *o->reviewed_by)
        cJSON_AddStringToObject(j, "reviewed_by", o->reviewed_by);
    cJSON *estimate = totals_json(o->totals), *images = cJSON_AddObjectToObject(j, "imagery");
    cJSON_ReplaceItemInObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(estimate, "map"), "path",
                                           cJSON_CreateString(file_base(o->map_dir)));
    cJSON_ReplaceItemInObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(estimate, "sample"), "source",
                                           cJSON_CreateString(file_base(o->totals->source)));
    cJSON_AddItemToObject(j, "estimate", estimate);
    for (int date = 0; date < 2; date++) {
        cJSON *list = cJSON_AddArrayToObject(images, phase[date]);
        cJSON_ArrayForEach(item, images_of(run, date))
        {
            cJSON *image = cJSON_CreateObject();
            cJSON_AddStringToObject(image, "file", file_base(text_of(item, "path")));
            cJSON_AddStringToObject(image, "sha256", text_of(item, "sha256"));
            if (*text_of(item, "date"))
                cJSON_AddStringToObject(image, "date", text_of(item, "date"));
            else
                cJSON_AddNullToObject(image, "date");
            cJSON_AddItemToArray(list, image);
        }
    }
    cJSON *limits = cJSON_AddArrayToObject(j, "limits");
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++)
        cJSON_AddItemToArray(limits, cJSON_CreateString(report_word(o->lang, limit[i])));
    item = cJSON_GetObjectItemCaseSensitive(run, "outputs");
    if (item)
        cJSON_AddItemToObject(j, "files", cJSON_Duplicate(item, true));
    cJSON_Delete(run);
    return j;
}
