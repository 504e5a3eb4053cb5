#include "tests/golden_kinds.h"

#include <string.h>

/* A kind of which no suite knows makes test_golden fail, so that nobody takes a set for checked which is not. */
static const GoldenKind kinds[] = {
    {"beam_search", NULL, "test_golden_search", NULL},
    {"beam_brute_force", NULL, "test_golden_search", NULL},
    {"beam_search_table", NULL, "test_golden_search", NULL},
    {"bleu_corpus", NULL, "test_bleu", NULL}, /* its chrF: test_bleu_chrf_ter */
    {"bleu_multi_ref", NULL, "test_bleu", NULL},
    {"bleu_sentence", NULL, "test_bleu", NULL},
    {"bleu_smoothing", NULL, "test_bleu", NULL},
    {"bleu_tokens", NULL, "test_bleu", NULL},
    {"data_split", NULL, "test_data", NULL},
    {"gamma", NULL, "test_golden_losses", NULL},
    {"gamma_schedule", NULL, "test_golden_losses", NULL},
    {"layer", NULL, "test_golden_layers", NULL}, /* which has a table of layers */
    {"logits", NULL, "test_golden_calibration", NULL},
    {"loss", NULL, "test_golden_losses", NULL},
    {"loss_schedule", NULL, "test_golden_losses", NULL},
    {"lr_schedule", NULL, "test_optimizer", NULL},
    {"metrics", NULL, "test_golden_calibration", NULL},
    {"network_inventory", NULL, "test_golden_networks", NULL},
    {"network_small", "params/built", "test_golden_networks", NULL},
    {"network_small", "params/pool_width", "test_global_pooling_cnn", NULL},
    {"newsgroups_text", NULL, "test_documents", NULL},
    {"ood", NULL, "test_golden_calibration", NULL},
    {"optimizer", NULL, "test_optimizer", NULL},
    {"sentence_scores", NULL, "test_bleu", NULL},
    {"sst_text", NULL, "test_trees", NULL},
    {"temperature", NULL, "test_golden_calibration", NULL},
    {"training_trace", "params/built", "test_train_trace", NULL},

    {"network_small", "params/variant", "test_tree_network", NULL},

    {"network_small", "params/positions", "test_transformer", NULL},
    {"training_trace", "params/positions", "test_transformer", NULL},
    {"token_calibration", NULL, NULL, "translation"},
    {"subwords", NULL, "test_subwords", NULL},
    {"chrf_corpus", NULL, "test_bleu_chrf_ter", NULL},
    {"ter_corpus", NULL, "test_bleu_chrf_ter", NULL},
    {"sacrebleu_cli", NULL, "test_bleu_command", NULL},
    {"bleu_bootstrap", NULL, "test_bleu_significance", NULL},
    {"bleu_randomisation", NULL, "test_bleu_significance", NULL},

    {"data", NULL, "test_recalibration", NULL},
    {"recalibration", NULL, "test_recalibration", NULL},
    {"smooth_ece", NULL, "test_study_measures", NULL},
    {"kernel_calibration_error", NULL, "test_study_measures", NULL},
    {"brier_decomposition", NULL, "test_study_measures", NULL},
    {"consistency_bars", NULL, "test_study_measures", NULL},
    {"verified_calibration", NULL, "test_study_measures", NULL},
    {"theory_g", NULL, "test_theory", NULL},
    {"theory_minimiser", NULL, "test_theory", NULL},
    {"theory_gamma", NULL, "test_theory", NULL},
    {"gradient_norms", NULL, "test_theory", NULL},
    {"cifar10c_gaussian_noise", NULL, "test_outside", NULL},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

const GoldenKind *golden_kinds(int *count)
{
    *count = KINDS;
    return kinds;
}

const GoldenKind *golden_kind(const GoldenCase *golden)
{
    for (int i = 0; i < KINDS; ++i)
        if (strcmp(kinds[i].kind, golden->kind) == 0 &&
            (kinds[i].mark == NULL || golden_has(golden, kinds[i].mark)))
            return &kinds[i];
    return NULL;
}
