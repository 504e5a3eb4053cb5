/* What was published of the paper's numbers, as far as it is at hand. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_PUBLISHED_H
#define PLUMB_LAUNCH_REPORT_PAPER_PUBLISHED_H

/* Of subject and loss (paper_runs.h), as fractions; NaN where a number is not at hand. The functions fit PaperPublished. */
double published_error(int subject, int loss, int stage);
double published_ece(int subject, int loss, int stage);
double published_temperature(int subject, int loss); /* chosen by ECE on the validation split */

double published_bleu(int subject, int loss,
                      int stage); /* the best test BLEU over temperatures, 0 to 100; appendix K */

extern const char published_source[]; /* a sentence for readers */

#endif
