/* Which parameters of a store a pattern names: "" all, else those whose full names it fits (fnmatch(3)). */
#ifndef PLUMB_ENGINE_PLAN_PARAMETER_PATTERN_H
#define PLUMB_ENGINE_PLAN_PARAMETER_PATTERN_H

#include "engine/base/status.h"
#include "engine/plan/store.h"

#include <stdbool.h>

bool parameter_pattern_takes(const char *pattern, const char *name);
/* STATUS_INPUT names the nearest parameter if it names none. */
CHECKED Status parameter_pattern_check(const Store *, const char *pattern);
/* *others: the parameters that it does not name, "a, b, c and 7 others", "" if there are none; release with free(). */
CHECKED Status parameter_pattern_list_others(const Store *, const char *pattern, char **others);

#endif
