#include "launch/settings.h"

/* clang-format off */
static const Setting settings[] = {
    {"seed", SETTING_INTEGER, "1", "0..", "of initialisation, order, augmentation and dropout"},
    {"epochs", SETTING_INTEGER, "350", "1..1000000000", "passes over the training split"},
    {"batch", SETTING_INTEGER, "128", "1..", "samples a step, over all ranks; a multiple of the number of ranks"},
    {"micro_batches", SETTING_INTEGER, "1", "1..1000000", "gradient accumulation: the batch is computed in this many parts"},
    {"evaluate_batch", SETTING_INTEGER, "0", "0..", "samples an evaluation step, over all ranks; 0: as batch"},
    {"device", SETTING_TEXT, "auto", "auto|cpu|cuda", "auto: a GPU if this build and machine have one"},
    {"share_gpus", SETTING_FLAG, "false", NULL, "let several ranks use one GPU (tests); else that is an error"},
    {"graph", SETTING_FLAG, "true", NULL, "record a step once and launch it as one from then on (CUDA graphs); false: for debugging"},
    {"collective", SETTING_TEXT, "auto", "auto|mpi|nccl", "what exchanges gradients; mpi: host memory (also without MPI), nccl: memory of GPUs; auto: as fits the device"},
    {"deterministic", SETTING_FLAG, "false", NULL, "on GPUs: the same bits in every run; no algorithm of NCCL or cuDNN is chosen by timing"},
    {"tf32", SETTING_FLAG, "false", NULL, "on GPUs: products of float32 numbers may be rounded to 10 bits (TF32)"},
    {"compute", SETTING_TEXT, "float32", "float32|bfloat16", "type of activations; parameters and losses stay float32"},
    {"threads", SETTING_INTEGER, "0", "0..65536", "CPU threads a rank; 0: this rank's share of the host"},
    {"init", SETTING_TEXT, "", NULL, "safetensors file of starting weights, ours or PyTorch's"},

    {"dataset.name", SETTING_TEXT, NULL, NULL, "which data set (plumb list datasets)"},
    {"dataset.folder", SETTING_TEXT, "", NULL, "where its files are; empty: the usual place (data/NAME, or the distribution's)"},
    {"dataset.validation", SETTING_INTEGER, "-1", "-1..", "samples held out of training; -1: the data set's usual number"},
    {"dataset.train_limit", SETTING_INTEGER, "0", "0..", "use only so many training samples; 0: all"},
    {"dataset.validation_limit", SETTING_INTEGER, "0", "0..", "use only so many validation samples; 0: all"},
    {"dataset.test_limit", SETTING_INTEGER, "0", "0..", "use only so many test samples; 0: all"},
    {"augment.crop_padding", SETTING_INTEGER, "4", "0..64", "random crop out of the image padded by so many pixels; 0: none"},
    {"augment.flip", SETTING_FLAG, "true", NULL, "random horizontal flip"},

    {"model.name", SETTING_TEXT, NULL, NULL, "which network (plumb list models)"},
    {"model.width", SETTING_INTEGER, "0", "0..65536", "channels of the first stage (DenseNet: growth rate); 0: as published"},
    {"model.blocks", SETTING_INTEGERS, "[]", "1..1000", "blocks a stage, instead of the named network's; ResNets and DenseNet"},
    {"model.depth", SETTING_INTEGER, "26", "8..6002", "wide_resnet: depth, 6n + 2"},
    {"model.widen", SETTING_INTEGER, "10", "1..1024", "wide_resnet: widening factor"},
    {"model.dropout", SETTING_REAL, "0", "[0..1)", "wide_resnet: dropout inside blocks"},
    {"model.sync_batch_norm", SETTING_FLAG, "false", NULL, "batch statistics over all ranks, not per rank"},

    {"loss.name", SETTING_TEXT, "cross_entropy", NULL, "what is minimised (plumb list losses)"},
    {"loss.reduction", SETTING_TEXT, "published", "published|sum|mean", "what the gradient is divided by; published: Brier mean, others sum"},
    {"loss.alpha", SETTING_REAL, "0.05", "[0..1]", "label_smoothing: share taken from the label"},
    {"loss.form", SETTING_TEXT, "paper", "paper|uniform", "label_smoothing: alpha/(K-1) to the other classes, or alpha/K to all"},
    {"loss.lambda", SETTING_REAL, "2", "0..", "mmce: weight beside cross-entropy"},
    {"loss.kernel_width", SETTING_REAL, "0.4", "(0..", "mmce: width of the Laplacian kernel"},
    {"loss.policy", SETTING_TEXT, "fixed", "fixed|schedule|sample|lambert", "focal: how gamma is chosen"},
    {"loss.gamma", SETTING_REAL, "3", "0..", "focal, fixed: gamma"},
    {"loss.gammas", SETTING_REALS, "[5, 3]", "0..", "focal, schedule: gamma of each period; sample: below and from each threshold"},
    {"loss.gamma_epochs", SETTING_INTEGERS, "[100, 250]", "0..", "focal, schedule: epochs (from 0) at which the next gamma begins"},
    {"loss.thresholds", SETTING_REALS, "[0.2]", "(0..1)", "focal, sample: probabilities of the true class that part the gammas, rising"},
    {"loss.p0", SETTING_REAL, "0.2", "(0..0.5]", "focal, lambert: gamma so that the gradient equals cross-entropy's at p0"},

    {"optimizer.name", SETTING_TEXT, "sgd", "sgd|adam|adagrad", "how parameters step"},
    {"optimizer.learning_rate", SETTING_REAL, "0.1", "0..", "base learning rate"},
    {"optimizer.momentum", SETTING_REAL, "0.9", "[0..1)", "sgd"},
    {"optimizer.nesterov", SETTING_FLAG, "false", NULL, "sgd"},
    {"optimizer.weight_decay", SETTING_REAL, "0.0005", "0..", "L2, added to the gradient after clipping"},
    {"optimizer.beta1", SETTING_REAL, "0.9", "[0..1)", "adam"},
    {"optimizer.beta2", SETTING_REAL, "0.999", "[0..1)", "adam"},
    {"optimizer.epsilon", SETTING_REAL, "1e-8", "0..", "adam, adagrad"},
    {"optimizer.clip_norm", SETTING_REAL, "2", "0..", "clip all gradients together to this norm; 0: do not"},
    {"schedule.name", SETTING_TEXT, "steps", "constant|steps|cosine|inverse_square_root", "learning rate over time"},
    {"schedule.epochs", SETTING_INTEGERS, "[150, 250]", "0..", "steps: epochs (from 0) at which the rate is multiplied"},
    {"schedule.factor", SETTING_REAL, "0.1", "0..", "steps: by this"},
    {"schedule.warmup_steps", SETTING_INTEGER, "0", "0..", "linear warm-up over so many steps"},
    {"schedule.final_rate", SETTING_REAL, "0", "0..", "cosine: learning rate at the end"},
    {"schedule.model_width", SETTING_INTEGER, "512", "1..", "inverse_square_root: width of the Transformer"},

    {"evaluate.every", SETTING_INTEGER, "1", "0..", "epochs between evaluations of validation and test splits; 0: only at the end"},
    {"evaluate.bins", SETTING_INTEGER, "15", "1..200", "bins of the calibration errors"},
    {"evaluate.bootstrap", SETTING_INTEGER, "1000", "0..100000000", "resamples for confidence intervals at the end"},
    {"checkpoint.epochs", SETTING_INTEGER, "1", "0..", "save every so many epochs, as long as that takes at most 2 % of the time; 0: never by epochs"},
    {"checkpoint.minutes", SETTING_REAL, "10", "0..", "and when so many minutes have passed; 0: never by time"},

    {"checkpoint.best", SETTING_TEXT, "auto", "auto|error|nll|brier|ece|ada_ece|classwise_ece|mce", "keep the model whose validation split has the lowest of this; auto: the task's (error)"},
    {"checkpoint.keep", SETTING_INTEGER, "0", "0..", "also keep the model of every so many epochs; 0: only best and last"},
    {"compat.early_schedule", SETTING_FLAG, "false", NULL, "learning-rate steps one epoch early, as the published code under torch >= 1.1"},
    {"compat.validation_is_test", SETTING_FLAG, "false", NULL, "tiny_imagenet: validate on the test images, as the published code"},
    {"compat.cifar100_test_normalisation", SETTING_FLAG, "false", NULL, "cifar100: ImageNet's constants for test images, as the published code"},

    {"comm.bucket_bytes", SETTING_INTEGER, "4194304", "1..", "gradients are reduced in slices of at least this size"},
    {"comm.gradients", SETTING_TEXT, "float32", "float32|bfloat16", "as which gradients travel between ranks; bfloat16: half the traffic, less exact sums"},
    {"comm.timeout_seconds", SETTING_REAL, "600", "(0..1000000000]", "how long a rank waits for the others before it calls them dead"},
    {"comm.step_seconds", SETTING_REAL, "45", "(0..1000000000]", "GPUs: how long a rank waits in a step for the others before it calls them dead"},
    {"plan.share_memory", SETTING_FLAG, "true", NULL, "reuse the memory of dead tensors; false: for debugging"},
    {"plan.fuse", SETTING_FLAG, "true", NULL, "fuse batch norm, addition and ReLU; false: for debugging"},
};
/* clang-format on */

const Setting *settings_table(int *count)
{
    *count = (int)(sizeof settings / sizeof settings[0]);
    return settings;
}
