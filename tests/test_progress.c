/* The line that a terminal shows while a run goes on: it fits, and keeps what matters most. */
#include "launch/train/progress.h"
#include "tests/support.h"

#include <stdio.h>
#include <string.h>

static ProgressParts parts_of_long_run(void)
{
    return (ProgressParts){.epoch = 117,
                           .epochs = 350,
                           .done = 0.33,
                           .loss = 123.4567,
                           .rate = 14211.3,
                           .unit = "images",
                           .left = "27 h 05 min"};
}

static void every_width_is_kept(void **state)
{
    (void)state;
    const ProgressParts parts = parts_of_long_run();
    for (int width = 1; width < PROGRESS_LINE; ++width) {
        char line[PROGRESS_LINE];
        progress_line(&parts, width, line);
        assert_in_range(strlen(line), 0, width - 1);
    }
}

static void least_useful_parts_go_first(void **state)
{
    (void)state;
    static const struct {
        int width;
        const char *line;
    } table[] = {
        {200, "epoch 117/350 [########................] loss 123.4567  14211 images/s  27 h 05 min left"},
        {80, "epoch 117/350 [####......] loss 123.4567  14211 images/s  27 h 05 min left"},
        {62, "epoch 117/350 loss 123.4567  14211 images/s  27 h 05 min left"},
        {50, "epoch 117/350 loss 123.4567  27 h 05 min left"},
        {40, "epoch 117/350 27 h 05 min left"},
        {20, "epoch 117/350 "},
        {8, "epoch 1"},
    };
    const ProgressParts parts = parts_of_long_run();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        char line[PROGRESS_LINE];
        progress_line(&parts, table[i].width, line);
        assert_string_equal(line, table[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_is_kept),
        cmocka_unit_test(least_useful_parts_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
