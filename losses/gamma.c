#include "losses/gamma.h"

#include <gsl/gsl_sf_lambert.h>
#include <math.h>
#include <string.h>

/* Proposition 2: with a = 1 - p0 and b = p0 log p0, gamma = a/b + W(-(a^(1 - a/b) / b) log a) / log a. The
 * published code adds 1e-12 to W's argument, which keeps it above the branch point -1/e for p0 = 0.5 and
 * costs precision everywhere else; here it is only kept from falling below. */
double gamma_from_threshold(double p0)
{
    const double log_a = log1p(-p0);
    const double b = p0 * log(p0);
    const double ratio = (1 - p0) / b;
    const double branch_point = -1 / M_E;
    const double argument = fmax(-exp((1 - ratio) * log_a) / b * log_a, branch_point);
    gsl_sf_result w;
    /* This form never calls GSL's error handler. At the branch point it may report a domain error, for a
     * rounding below it, and gives -1, which is right. */
    (void)gsl_sf_lambert_Wm1_e(argument, &w);
    return fmax(ratio + w.val / log_a, 0);
}

static Status check_rising(const Config *config, const char *name, const GammaPolicy *policy)
{
    for (int32_t i = 1; i < policy->limits; ++i)
        if (!(policy->limit[i - 1] < policy->limit[i]))
            return config_error(config, name, "must rise, but %g follows %g", policy->limit[i],
                                policy->limit[i - 1]);
    return OK;
}

static Status read_gammas(const Config *config, const char *limits_name, GammaPolicy *policy)
{
    const double *gammas;
    const int count = config_reals(config, "loss.gammas", &gammas);
    if (count > GAMMA_MAX_STEPS)
        return config_error(config, "loss.gammas", "at most %d values", (int)GAMMA_MAX_STEPS);
    if (count != policy->limits + 1)
        return config_error(config, "loss.gammas",
                            "%d gammas need %d %s between them, but there are %d; give both settings", count,
                            count - 1, limits_name, policy->limits);
    memcpy(policy->gamma, gammas, (size_t)count * sizeof *gammas);
    return OK;
}

static Status read_fixed(const Config *config, GammaPolicy *policy)
{
    policy->gamma[0] = config_real(config, "loss.gamma");
    return OK;
}

static Status read_schedule(const Config *config, GammaPolicy *policy)
{
    const int64_t *epochs;
    const int count = config_integers(config, "loss.gamma_epochs", &epochs);
    if (count >= GAMMA_MAX_STEPS)
        return config_error(config, "loss.gamma_epochs", "at most %d values", (int)GAMMA_MAX_STEPS - 1);
    for (int i = 0; i < count; ++i)
        policy->limit[i] = (double)epochs[i];
    policy->limits = count;
    policy->by_epoch = true;
    TRY(check_rising(config, "loss.gamma_epochs", policy));
    return read_gammas(config, "loss.gamma_epochs", policy);
}

static Status read_sample(const Config *config, GammaPolicy *policy)
{
    const double *thresholds;
    const int count = config_reals(config, "loss.thresholds", &thresholds);
    if (count >= GAMMA_MAX_STEPS)
        return config_error(config, "loss.thresholds", "at most %d values", (int)GAMMA_MAX_STEPS - 1);
    if (count > 0) memcpy(policy->limit, thresholds, (size_t)count * sizeof *thresholds);
    policy->limits = count;
    TRY(check_rising(config, "loss.thresholds", policy));
    return read_gammas(config, "loss.thresholds", policy);
}

static Status read_lambert(const Config *config, GammaPolicy *policy)
{
    policy->gamma[0] = gamma_from_threshold(config_real(config, "loss.p0"));
    return OK;
}

static const struct {
    const char *name; /* loss.policy */
    Status (*read)(const Config *, GammaPolicy *);
} policies[] = {
    {"fixed", read_fixed},
    {"schedule", read_schedule},
    {"sample", read_sample},
    {"lambert", read_lambert},
};

Status gamma_read(const Config *config, GammaPolicy *policy)
{
    *policy = (GammaPolicy){0};
    const char *name = config_text(config, "loss.policy");
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; ++i)
        if (strcmp(policies[i].name, name) == 0) return policies[i].read(config, policy);
    return config_error(config, "loss.policy", "unknown policy \"%s\"", name);
}
