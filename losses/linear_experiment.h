/* The linear experiment of appendix C: a linear classifier on a plane, trained by cross-entropy and by focal loss. As nothing stops it
 * once all training points are right, cross-entropy goes on to enlarge the weights and with them the confidence of what it gets wrong;
 * focal loss less so.
 *
 * The recipe is this program's own, since the paper's text does not fix one:
 *   - two classes with normal distributions of unit variance about (1, 0.5) and (-1, -0.5); LINEAR_TRAIN points for training, in turn of
 *     either class, of which those are drawn again whose distance from the line between the classes is below 0.1 on their own side, so
 *     that the training points can be separated; LINEAR_TEST test points, drawn once, which overlap. Philox, seed 1.
 *   - logits W x + b, W and b 0 at first; gradient descent on the mean loss over all training points, learning rate 0.5,
 *     LINEAR_STEPS steps. */
#ifndef PLUMB_LOSSES_LINEAR_EXPERIMENT_H
#define PLUMB_LOSSES_LINEAR_EXPERIMENT_H

#include "losses/loss_head.h"

enum { LINEAR_TRAIN = 100, LINEAR_TEST = 1000, LINEAR_STEPS = 10000, LINEAR_MOST_RECORDS = 64 };

typedef struct {
    double x[2];
    int label; /* 0 or 1 */
} LinearPoint;

typedef struct {
    LinearPoint train[LINEAR_TRAIN], test[LINEAR_TEST];
} LinearData;
void linear_data(LinearData *);

typedef struct {
    int step;
    double weight_norm; /* of W, Frobenius */
    double logit_norm;  /* mean over the training points */
    double train_error, test_error;
    double wrong_confidence; /* mean over the test points that are misclassified */
    double test_nll;
} LinearRecord;

typedef struct {
    double weight[2][2], bias[2]; /* at the end */
    int records;
    LinearRecord record[LINEAR_MOST_RECORDS]; /* at steps that grow by a fifth */
} LinearResult;
void linear_train(const LinearData *, const LossHead *, LinearResult *);

#endif
