/* SPDX-License-Identifier: Apache-2.0
 * cmd_estimate.c - `aftermap estimate`: totals with intervals from a blindly drawn and graded sample
 * (geo/totals.h). */
#include "app/command.h"
#include "app/console.h"
#include "app/estimate_options.h"

#include <math.h>
#include <stdio.h>

static const struct argp_option options[] = {
    TOTALS_ARGP_OPTIONS,
    {"half-width", KEY_TOTALS_HALF_WIDTH, "W", 0,
     "Say how many buildings must be graded for the total to be known to +-W: buildings, or a share of them "
     "such as 2%",
     4},
    {0}};

static void estimate_defaults(void *options_)
{
    totals_defaults(options_);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct totals_options *o = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (o->map_dir)
            argp_error(state, "one map at a time: '%s' is a second one", arg);
        o->map_dir = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->map_dir)
            argp_error(state, "name the map folder");
        if (!o->truth && (o->sample || o->zones))
            argp_error(state, "name the grades with --truth");
        if (o->zones && !o->zone_id)
            argp_error(state, "say which field of %s names the zones with --zone-id", o->zones);
        return 0;
    default:
        return totals_parse(key, arg, state, o);
    }
}

static void print_total(const char *name, const struct totals_total *t, uint32_t n)
{
    printf("%-28s %7u %11.1f %9.0f to %-9.0f %5.1f %% (%.1f to %.1f)\n", name, t->n_sampled, t->estimate,
           t->low, t->high, 100 * t->estimate / n, 100 * t->low / n, 100 * t->high / n);
}

static void print_zones(const struct totals_report *r)
{
    printf("\n%-28s %9s %7s %11s %9s\n", "damaged by zone", "buildings", "graded", "estimate", "interval");
    for (int i = 0; i < r->n_zones; i++) {
        const struct totals_area *a = &r->zone[i];
        char name[64];
        snprintf(name, sizeof name, "%s%s%s", a->outside ? "outside all zones" : a->zone_id,
                 a->zone_name && *a->zone_name ? " " : "", a->zone_name ? a->zone_name : "");
        printf("%-28.28s %9u %7u", name, a->n_buildings, a->n_sampled);
        if (*a->refused)
            printf("   no estimate: %s\n", a->refused);
        else
            printf(" %11.1f %9.0f to %.0f\n", a->damaged.estimate, a->damaged.low, a->damaged.high);
    }
}

static void print_share(const char *name, const struct totals_share *s)
{
    if (isfinite(s->value))
        printf("%-28s %.3f [%.3f, %.3f]\n", name, s->value, s->low, s->high);
}

static void print_report(const struct totals_report *r)
{
    const struct totals_area *w = &r->whole;
    char name[64];
    if (r->has_sample) {
        printf("%s: %u buildings, %u of %u drawn graded (%s%s), %s %g %% intervals\n\n", r->map_path,
               w->n_buildings, r->n_graded, r->n_drawn,
               r->stratified_by ? "stratified by " : "a simple random sample",
               r->stratified_by ? r->stratified_by : "", totals_method_name(r->method), 100 * r->level);
        printf("%-28s %7s %11s %9s\n", "", "sampled", "estimate", "interval");
        snprintf(name, sizeof name, "damaged (level %d or worse)", r->cut);
        print_total(name, &w->damaged, w->n_buildings);
        for (int k = 0; k < TOTALS_CLASSES; k++)
            print_total(totals_class_name(k), &w->of_class[k], w->n_buildings);
        if (isfinite(w->n_predicted))
            printf("\nthe map itself calls %.0f damaged\n", w->n_predicted);
        print_share("precision of the map", &r->precision);
        print_share("recall of the map", &r->recall);
        if (r->n_zones)
            print_zones(r);
    }
    if (isfinite(r->half_width))
        printf("%s+-%.0f buildings at a share of %.3f: grade %u (exact), %u (model-assisted); %u whatever "
               "the share\n",
               r->has_sample ? "\n" : "", r->half_width, r->planned_share, r->size_exact, r->size_assisted,
               r->size_worst);
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    const struct totals_options *o = options_;
    struct totals_report r = {0};
    if (common->dry_run)
        return err_set(e, ERR_USAGE, "estimate writes no files, so --dry-run has no meaning here");
    if (!totals_run(o, progress, &r, e))
        return false;
    bool ok;
    if (common->json)
        ok = print_json(totals_json(&r), e);
    else {
        print_report(&r);
        ok = flush_stdout(e);
        for (int i = 0; i < r.n_notes; i++)
            console_say("%s", r.note[i]);
    }
    totals_free(&r);
    return ok;
}

const struct command command_estimate = {
    .name = "estimate",
    .args_doc = "MAP --truth SAMPLE:FIELD",
    .summary = "How many buildings are damaged, with intervals, from a graded sample",
    .doc =
        "Totals of every class, for the whole map and by zone, from buildings that were drawn blindly and "
        "graded: never read off the map alone.\v"
        "Draw the sample with 'aftermap sample', grade it in the order of its column draw, and name it "
        "here. Grades that were picked to teach a model, skipped buildings, and samples that look unlike the "
        "map are refused with the reason. A building that cannot be told counts as 'unknown', with a total "
        "of its own. Zones with fewer than 10 graded buildings get a reason instead of numbers.\n\n"
        "exact intervals (hypergeometric Clopper-Pearson) hold at least as often as --level says, "
        "model-assisted ones hold that often on average and are narrower the better the map is.\n\n"
        "Example: aftermap estimate map --truth sample.csv:grade --zones districts.gpkg --zone-id pcode",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct totals_options),
    .defaults = estimate_defaults,
    .run = run,
};
