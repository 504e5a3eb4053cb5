#include "nlp/search_rules.h"

#include <math.h>
#include <string.h>

static const SearchRules rules_table[] = {
    {"plumb", LENGTH_WU, true, ENDS_ANYWHERE, STOP_BOUND, STOP_BOUND, LIMIT_FORCED_END, KEEP_BEST},
    {"tensor2tensor", LENGTH_WU, true, ENDS_ANYWHERE, STOP_BOUND, STOP_BOUND, LIMIT_TENSOR2TENSOR, KEEP_BEST},
    {"fairseq", LENGTH_POWER, true, ENDS_IN_BEAM, STOP_FINISHED, STOP_FINISHED, LIMIT_FORCED_END, KEEP_FIRST},
    {"ctranslate2", LENGTH_POWER, true, ENDS_IN_BEAM, STOP_FINISHED, STOP_FIRST, LIMIT_CUT, KEEP_ALL},
};
enum { RULES = sizeof rules_table / sizeof rules_table[0] };

const SearchRules *search_rules_table(int *count)
{
    *count = RULES;
    return rules_table;
}

const SearchRules *search_rules(const char *name)
{
    for (int i = 0; i < RULES; ++i)
        if (strcmp(rules_table[i].name, name) == 0) return &rules_table[i];
    return NULL;
}

SearchOptions search_defaults(int32_t padding, int32_t start, int32_t end)
{
    return (SearchOptions){.rules = rules_table[0],
                           .beam = 4,
                           .best = 1,
                           .alpha = 0.6,
                           .temperature = 1,
                           .top_p = 1,
                           .start = start,
                           .end = end,
                           .never = {padding, start}};
}

Status search_check(const SearchOptions *options)
{
    if (options->beam < 1 || options->beam > SEARCH_MOST_BEAM)
        return fail(STATUS_INPUT, "a beam is 1 to %d, not %d", SEARCH_MOST_BEAM, options->beam);
    if (options->best < 1 || options->best > options->beam)
        return fail(STATUS_INPUT, "the best %d hypotheses of a sentence: a beam of %d has 1 to %d",
                    options->best, options->beam, options->beam);
    if (options->method == SEARCH_GREEDY && options->beam != 1)
        return fail(STATUS_INPUT, "greedy search has one hypothesis, not %d", options->beam);
    if (!(options->temperature >= 1e-3 && options->temperature <= 1e3))
        return fail(STATUS_INPUT, "a temperature is 0.001 to 1000, not %g", options->temperature);
    if (!(options->alpha >= 0 && options->alpha <= 10))
        return fail(STATUS_INPUT, "alpha of the length penalty is 0 to 10, not %g", options->alpha);
    if (options->minimum < 0) return fail(STATUS_INPUT, "the least length is %d", options->minimum);
    if (options->no_repeat < 0)
        return fail(STATUS_INPUT, "no sequence of %d tokens comes twice: that is no length",
                    options->no_repeat);
    if (options->top_k < 0)
        return fail(STATUS_INPUT,
                    "samples are drawn from the best %lld tokens: at least 1 is needed, or 0 for all",
                    (long long)options->top_k);
    if (!(options->top_p > 0 && options->top_p <= 1))
        return fail(STATUS_INPUT, "top-p is more than 0 and at most 1, not %g", options->top_p);
    return OK;
}

double search_penalty(const SearchOptions *options, int tokens, bool ended)
{
    double length = options->rules.count_end || !ended ? tokens : tokens - 1;
    switch (options->rules.penalty) {
    case LENGTH_WU:
        return pow((5 + length) / 6, options->alpha);
    case LENGTH_POWER:
        if (length < 1) length = 1; /* of the end token alone */
        return pow(length, options->alpha);
    default:
        return 1;
    }
}

SearchStop search_stop(const SearchOptions *options)
{
    const bool penalty = options->rules.penalty != LENGTH_NONE && options->alpha > 0;
    return penalty ? options->rules.stop : options->rules.stop_without_penalty;
}

int search_most_banned(const SearchOptions *options, int most_target)
{
    return 3 + (options->no_repeat > 0 ? most_target : 0);
}
