/* plumb bleu: BLEU, chrF and TER with sacreBLEU's command line and sacreBLEU's output. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_COMMAND_H
#define PLUMB_LAUNCH_BLEU_BLEU_COMMAND_H

#include "comm/comm.h"
#include "engine/base/status.h"

extern const char bleu_help[];
/* Rank 0 works; the others have nothing to do. */
CHECKED Status command_bleu(World *, int argc, char **argv);

#endif
