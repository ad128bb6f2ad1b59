/* SPDX-License-Identifier: Apache-2.0
 * estimate_options.c - parses the options of estimate_options.h. */
#include "app/estimate_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double half_width_parse(struct argp_state *state, const char *arg)
{
    char *end;
    const double v = strtod(arg, &end);
    const bool percent = strcmp(end, "%") == 0;
    if (end == arg || (*end && !percent) || !isfinite(v) || v <= 0 || (percent ? v >= 50 : v < 1 || v > 1e9))
        argp_error(state, "--half-width takes a number of buildings or a share of them such as 2%%, not '%s'",
                   arg);
    return percent ? v / 100 : v;
}

error_t totals_parse(int key, char *arg, struct argp_state *state, struct totals_options *o)
{
    switch (key) {
    case KEY_TOTALS_TRUTH:
        o->truth = arg;
        break;
    case KEY_TOTALS_SAMPLE:
        o->sample = arg;
        break;
    case KEY_TOTALS_RANDOM:
        o->assume_random = true;
        break;
    case KEY_TOTALS_ZONES:
        o->zones = arg;
        break;
    case KEY_TOTALS_LAYER:
        o->zones_layer = arg;
        break;
    case KEY_TOTALS_ZONE_ID:
        o->zone_id = arg;
        break;
    case KEY_TOTALS_ZONE_NAME:
        o->zone_name = arg;
        break;
    case KEY_TOTALS_METHOD:
        if (strcmp(arg, "exact") != 0 && strcmp(arg, "model-assisted") != 0)
            argp_error(state, "--method takes exact or model-assisted, not '%s'", arg);
        o->method = *arg == 'e' ? TOTALS_EXACT : TOTALS_ASSISTED;
        break;
    case KEY_TOTALS_LEVEL:
        o->level = parse_real(state, "--level", arg, 0.6, 0.999);
        break;
    case KEY_TOTALS_CUT:
        o->cut = (int)parse_int(state, "--cut", arg, 1, 3);
        break;
    case KEY_TOTALS_HALF_WIDTH:
        o->half_width = half_width_parse(state, arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}
