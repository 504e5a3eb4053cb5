/* What the hub and the ranks say to each other: a frame, then as many bytes as it says. Same program and kind
 * of processor on both sides. Private to comm/star/. */
#ifndef PLUMB_COMM_STAR_STAR_FRAMES_H
#define PLUMB_COMM_STAR_STAR_FRAMES_H

#include "comm/star/star.h"

enum { STAR_MAGIC = 0x706c6d31 }; /* changes with the protocol */

typedef enum {
    FRAME_JOIN = 1,           /* to the hub, first of all: JoinRequest */
    FRAME_ACCEPTED,           /* from it: the other half of the secret */
    FRAME_START,              /* from it: all ranks are there; their hosts */
    FRAME_HEARTBEAT,          /* both ways, every HEARTBEAT_SECONDS; to the hub with the sender's progress */
    FRAME_PART,               /* to the hub: this rank's part of an exchange */
    FRAME_RESULT,             /* from it: the result */
    FRAME_MEMBERSHIP_REQUEST, /* to the hub: how are the others? */
    FRAME_MEMBERSHIP,         /* from it: a MemberState for each rank */
    FRAME_FAILED,             /* both ways: a rank has failed or is lost; the message */
    FRAME_LEAVE,              /* to the hub: leaves in order */
    FRAME_KINDS
} FrameKind;

typedef struct {
    uint32_t magic;
    int32_t kind;
    int32_t detail; /* PART: STAR_GATHER or a DType; FAILED: the StatusCode */
    int32_t rank;   /* FAILED: whose */
    int64_t number; /* PART, RESULT: of the exchange, from 1; HEARTBEAT: progress */
    uint64_t bytes; /* that follow */
} Frame;

typedef struct {
    uint64_t secret;
    int32_t rank, size;
    HostName host;
} JoinRequest;

/* What the hub knows of a rank. */
typedef struct {
    double silence; /* seconds since its last heartbeat, or whatever came of it */
    int64_t exchanges, progress;
} MemberState;

#define HEARTBEAT_SECONDS 0.25

enum { EXCHANGE_OF_FAILING = 0 }; /* in which ranks meet that end with an error, whatever else is under way */

/* The most bytes that may follow a frame of the kind among `size` ranks: what a receiver allocates; 0 for a kind that
 * is not known. */
uint64_t star_largest_payload(int32_t kind, int size);

/* Opens a port. */
CHECKED Status star_listen(StarAddress *, int *listening);
/* A connection with the hub, which knows this rank then; -1 if there is none within so many seconds for each
 * of its addresses. */
int star_connect(const StarAddress *, const StarOptions *, double seconds);

/* Is there nothing left that the hub wants to send? */
bool hub_is_idle(Hub *);

#endif
