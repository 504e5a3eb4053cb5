/* What connects ranks implements; collective.c forwards to it, having checked the arguments. */
#ifndef PLUMB_ENGINE_DEVICE_COLLECTIVE_METHODS_H
#define PLUMB_ENGINE_DEVICE_COLLECTIVE_METHODS_H

#include "engine/device/collective.h"

/* Spans hold at least one element, with memory; `all` holds size parts of the type of `part`; root is a rank. */
typedef struct CollectiveMethods {
    Status (*sum)(Collective *, Span, Stream after);
    Status (*gather)(Collective *, Span part, Span all, Stream after);
    Status (*broadcast)(Collective *, Span, int root, Stream after);
    Status (*join)(Collective *, Stream);
    Status (*wait)(Collective *, Device *, Mark);
    Status (*health)(Collective *);
    void (*free)(Collective *);
} CollectiveMethods;

#endif
