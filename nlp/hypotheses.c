#include "nlp/hypotheses.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

Status hypotheses_begin(const SearchOptions *options, Hypotheses *all)
{
    const size_t beam = (size_t)options->beam;
    *all = (Hypotheses){.link = NULL};
    TRY(memory_new(&all->live, beam, sizeof *all->live, "hypotheses"));
    TRY(memory_new(&all->finished, 2 * beam, sizeof *all->finished, "hypotheses"));
    all->live[0] = (LiveHypothesis){.link = -1};
    all->live_count = 1;
    return OK;
}

void hypotheses_free(Hypotheses *all)
{
    free(all->link);
    free(all->live);
    free(all->finished);
    *all = (Hypotheses){.link = NULL};
}

int32_t hypotheses_last(const SearchOptions *options, const Hypotheses *all, const LiveHypothesis *live)
{
    return live->link < 0 ? options->start : all->link[live->link].token;
}

void hypotheses_tokens(const Hypotheses *all, const LiveHypothesis *live, int32_t token[])
{
    int32_t link = live->link;
    for (int i = live->length; i-- > 0; link = all->link[link].parent)
        token[i] = all->link[link].token;
}

/* ---- a step ---- */

/* The candidate as a live hypothesis. */
static Status extend(Hypotheses *all, const SearchCandidate *one, LiveHypothesis *longer)
{
    const LiveHypothesis *live = &all->live[one->row];
    TRY(memory_grow(&all->link, &all->link_capacity, all->links + 1, sizeof *all->link, "hypotheses"));
    all->link[all->links] =
        (HypothesisLink){.parent = live->link, .token = one->token, .log_probability = one->log_probability};
    *longer = (LiveHypothesis){.link = (int32_t)all->links++,
                               .parent = one->row,
                               .sample = one->sample,
                               .length = live->length + 1,
                               .log_probability = one->total};
    return OK;
}

/* Puts a hypothesis into the finished list, behind those of the same score. */
static void finish(const SearchOptions *options, Hypotheses *all, const LiveHypothesis *live, bool ended)
{
    const SearchKeep keep = options->rules.keep;
    if (keep == KEEP_FIRST && all->finished_count == options->beam) return;
    const FinishedHypothesis one = {.link = live->link,
                                    .sample = live->sample,
                                    .length = live->length,
                                    .ended = ended,
                                    .log_probability = live->log_probability,
                                    .score =
                                        live->log_probability / search_penalty(options, live->length, ended)};
    int place = all->finished_count;
    if (options->method == SEARCH_SAMPLE)
        while (place > 0 && all->finished[place - 1].sample > one.sample)
            --place;
    else
        while (place > 0 && all->finished[place - 1].score < one.score)
            --place;
    const int most = keep == KEEP_ALL ? 2 * options->beam : options->beam;
    if (place >= most) return;
    if (all->finished_count < most) ++all->finished_count;
    memmove(all->finished + place + 1, all->finished + place,
            (size_t)(all->finished_count - 1 - place) * sizeof one);
    all->finished[place] = one;
}

/* The hypotheses that live on. */
static void replace_live(Hypotheses *all, const LiveHypothesis live[], int count)
{
    memcpy(all->live, live, (size_t)count * sizeof *live);
    all->live_count = count;
    ++all->position;
}

/* Can no live hypothesis come before those that are finished any more? A score only falls by further tokens, but for what the
 * penalty of the greatest length forgives. */
static bool is_beyond_reach(const SearchOptions *options, int limit, const Hypotheses *all)
{
    if (all->finished_count < options->beam) return false;
    const double reach = all->live[0].log_probability / search_penalty(options, limit, true);
    return all->finished[options->beam - 1].score >= reach;
}

/* The live hypotheses of a search that is at its limit. */
static void end_at_limit(const SearchOptions *options, Hypotheses *all)
{
    const bool wanted = options->rules.limit == LIMIT_TENSOR2TENSOR ? all->finished_count == 0 : true;
    for (int i = 0; i < all->live_count && wanted; ++i)
        finish(options, all, &all->live[i], false);
    all->live_count = 0;
}

static bool is_done(const SearchOptions *options, int limit, const Hypotheses *all)
{
    if (all->live_count == 0) return true;
    switch (search_stop(options)) {
    case STOP_FIRST:
        return all->best_ended && all->finished_count >= options->best;
    case STOP_FINISHED:
        return all->finished_count >= options->beam;
    default:
        return is_beyond_reach(options, limit, all);
    }
}

Status hypotheses_advance(const SearchOptions *options, int limit, const SearchCandidate candidates[],
                          int count, Hypotheses *all)
{
    const bool greedy = options->method == SEARCH_GREEDY, at_limit = all->position + 1 == limit;
    const bool in_beam = !greedy && options->rules.ends == ENDS_IN_BEAM;
    const bool cut = at_limit && !greedy && options->rules.limit == LIMIT_CUT;
    int live_count = 0;
    LiveHypothesis live[SEARCH_MOST_BEAM] = {{0}};
    if (cut && count > options->beam) count = options->beam;
    if (count > 0 && candidates[0].token == options->end) all->best_ended = true;
    for (int i = 0; i < count; ++i) {
        const SearchCandidate *one = &candidates[i];
        LiveHypothesis longer;
        if (one->token == options->end) {
            if (in_beam && i >= options->beam) continue;
            TRY(extend(all, one, &longer));
            finish(options, all, &longer, true);
        } else if (live_count < options->beam) {
            TRY(extend(all, one, &live[live_count]));
            ++live_count;
        }
    }
    replace_live(all, live, live_count);
    if (at_limit) end_at_limit(options, all);
    all->done = is_done(options, limit, all);
    return OK;
}

Status hypotheses_sample(const SearchOptions *options, int limit, const SearchCandidate candidates[],
                         int count, Hypotheses *all)
{
    const bool at_limit = all->position + 1 == limit;
    int live_count = 0;
    LiveHypothesis live[SEARCH_MOST_BEAM] = {{0}};
    for (int i = 0; i < count; ++i) {
        const bool ended = candidates[i].token == options->end;
        LiveHypothesis longer;
        TRY(extend(all, &candidates[i], &longer));
        if (ended || at_limit)
            finish(options, all, &longer, ended);
        else
            live[live_count++] = longer;
    }
    replace_live(all, live, live_count);
    all->done = live_count == 0;
    return OK;
}

/* ---- results ---- */

Status hypotheses_write(const Hypotheses *all, int place, Hypothesis *out)
{
    const FinishedHypothesis *finished = &all->finished[place];
    const size_t length = (size_t)finished->length;
    *out = (Hypothesis){.length = finished->length,
                        .ended = finished->ended,
                        .log_probability = finished->log_probability,
                        .score = finished->score};
    TRY(memory_new(&out->token, length + 1, sizeof *out->token, "a hypothesis"));
    TRY(memory_new(&out->token_log_probability, length + 1, sizeof *out->token_log_probability,
                   "a hypothesis"));
    int32_t link = finished->link;
    for (int i = finished->length; i-- > 0; link = all->link[link].parent) {
        out->token[i] = all->link[link].token;
        out->token_log_probability[i] = all->link[link].log_probability;
    }
    return OK;
}
