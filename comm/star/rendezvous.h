/* A file that all ranks see, in which rank 0 tells where it is to be found. Private to comm/. */
#ifndef PLUMB_COMM_STAR_RENDEZVOUS_H
#define PLUMB_COMM_STAR_RENDEZVOUS_H

#include "comm/star/star.h"

/* Writes the file, in place of what an earlier job may have left there; only the user can read it. */
CHECKED Status rendezvous_write(const char *path, const StarAddress *);
/* An error while it is not there, or not whole. */
CHECKED Status rendezvous_read(const char *path, StarAddress *);
void rendezvous_remove(const char *path);

#endif
