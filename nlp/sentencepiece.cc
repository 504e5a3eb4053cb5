#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

extern "C" {
#include "engine/base/memory.h"
#include "nlp/sentencepiece.h"
}

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

struct SentencePiece {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

const char space_mark[] = "\xE2\x96\x81"; /* U+2581, which stands for a space in pieces */

/* Nothing that C++ throws leaves this file. */
template <class Work> Status guarded(Work work) noexcept
{
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return fail(STATUS_MEMORY, "no memory for SentencePiece");
    } catch (const std::exception &error) {
        return fail(STATUS_INTERNAL, "SentencePiece: %s", error.what());
    } catch (...) {
        return fail(STATUS_INTERNAL, "SentencePiece: an unknown exception");
    }
}

absl::string_view view(TextSpan text)
{
    return text.size == 0 ? absl::string_view() : absl::string_view(text.data, text.size);
}

TextSpan span(const std::string &text)
{
    TextSpan result;
    result.data = text.data();
    result.size = text.size();
    return result;
}

/* The library's messages begin with a place in its source: "trainer_interface.cc(661) [check] what is wrong". */
std::string message(const sentencepiece::util::Status &status)
{
    const std::string whole = status.ToString();
    const size_t end = whole.rfind("] ");
    return end == std::string::npos || end + 2 >= whole.size() ? whole : whole.substr(end + 2);
}

/* Feeds the lines to the trainer. What it throws would go through code of the library: it throws nothing. */
class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(NextLine *next, void *context) : next_(next), context_(context) { Next(); }
    bool done() const override { return done_; }
    void Next() override
    {
        TextSpan line = {};
        done_ = !next_(context_, &line);
        if (!done_) line_.assign(line.size == 0 ? "" : line.data, line.size);
    }
    const std::string &value() const override { return line_; }
    sentencepiece::util::Status status() const override { return sentencepiece::util::Status(); }

  private:
    NextLine *next_;
    void *context_;
    std::string line_;
    bool done_ = false;
};

std::unordered_map<std::string, std::string> trainer_arguments(const SentencePieceTraining *training)
{
    return {{"model_type", training->type},
            {"vocab_size", std::to_string(training->size)},
            {"character_coverage", std::to_string(training->coverage)},
            {"normalization_rule_name", training->normalisation},
            /* Else it skips lines in silence; it takes no less than 10. */
            {"max_sentence_length", std::to_string(std::max<int64_t>(training->longest + 1, 10))},
            {"num_threads", "1"}, /* the same pieces on every machine */
            {"pad_id", "0"},
            {"bos_id", "1"},
            {"eos_id", "2"},
            {"unk_id", "3"},
            {"minloglevel", "2"}}; /* errors */
}

/* What stands after `before` in the text, if that is a number. */
bool number_after(const std::string &text, const char *before, long long *number)
{
    const size_t at = text.find(before);
    if (at == std::string::npos) return false;
    char *end = nullptr;
    const char *start = text.c_str() + at + std::strlen(before);
    *number = std::strtoll(start, &end, 10);
    return end != start;
}

Status training_failed(const SentencePieceTraining *training, const std::string &why)
{
    long long largest = 0;
    if (number_after(why, "Please set it to a value <= ", &largest))
        return fail(STATUS_INPUT, "%lld pieces are too many for these lines: at most %lld are possible",
                    (long long)training->size, largest);
    long long needed = 0;
    if (why.find("smaller than required_chars") != std::string::npos && number_after(why, " vs ", &needed))
        return fail(STATUS_INPUT,
                    "%lld pieces are too few for these lines: the characters in them need %lld alone",
                    (long long)training->size, needed);
    return fail(STATUS_INPUT, "SentencePiece cannot make %lld pieces of these lines: %s",
                (long long)training->size, why.c_str());
}

} // namespace

Status sentencepiece_parse(const char *name, const void *bytes, size_t size, SentencePiece **out)
{
    *out = nullptr;
    return guarded([&]() -> Status {
        std::unique_ptr<SentencePiece> model(new SentencePiece);
        const auto status = model->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(bytes), size));
        if (!status.ok())
            return fail(STATUS_INPUT, "%s: SentencePiece refuses this model: %s", name,
                        message(status).c_str());
        *out = model.release();
        return OK;
    });
}

void sentencepiece_free(SentencePiece *model) { delete model; }

int64_t sentencepiece_size(const SentencePiece *model) { return model->processor.GetPieceSize(); }

TextSpan sentencepiece_piece(const SentencePiece *model, int64_t id)
{
    return span(model->processor.IdToPiece(static_cast<int>(id)));
}

int32_t sentencepiece_find(const SentencePiece *model, TextSpan piece)
{
    return model->processor.PieceToId(view(piece));
}

int32_t sentencepiece_padding(const SentencePiece *model) { return model->processor.pad_id(); }
int32_t sentencepiece_start(const SentencePiece *model) { return model->processor.bos_id(); }
int32_t sentencepiece_end(const SentencePiece *model) { return model->processor.eos_id(); }
int32_t sentencepiece_unknown(const SentencePiece *model) { return model->processor.unk_id(); }

Status sentencepiece_encode(const SentencePiece *model, TextSpan text, TakeIds *take, void *context)
{
    return guarded([&]() -> Status {
        std::vector<int> ids;
        const auto status = model->processor.Encode(view(text), &ids);
        if (!status.ok())
            return fail(STATUS_INPUT, "SentencePiece cannot encode: %s", message(status).c_str());
        static_assert(sizeof(int) == sizeof(int32_t), "ids are int32_t");
        return take(context, ids.data(), ids.size());
    });
}

Status sentencepiece_decode(const SentencePiece *model, const int32_t *id, size_t count, TakeText *take,
                            void *context)
{
    return guarded([&]() -> Status {
        const int64_t size = sentencepiece_size(model);
        for (size_t i = 0; i < count; ++i)
            if (id[i] < 0 || id[i] >= size)
                return fail(STATUS_INPUT, "there is no piece %d: ids are from 0 to %lld", (int)id[i],
                            (long long)size - 1);
        std::string text;
        const auto status = model->processor.Decode(std::vector<int>(id, id + count), &text);
        if (!status.ok())
            return fail(STATUS_INPUT, "SentencePiece cannot decode: %s", message(status).c_str());
        return take(context, span(text));
    });
}

Status sentencepiece_normalise(const SentencePiece *model, TextSpan text, TakeText *take, void *context)
{
    return guarded([&]() -> Status {
        std::vector<std::string> pieces;
        const auto status = model->processor.Encode(view(text), &pieces);
        if (!status.ok())
            return fail(STATUS_INPUT, "SentencePiece cannot encode: %s", message(status).c_str());
        std::string whole;
        for (const std::string &piece : pieces) {
            if (model->processor.IsByte(model->processor.PieceToId(piece))) /* "<0xE2>" */
                whole += static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16));
            else
                whole += piece;
        }
        std::string normal;
        const size_t mark = sizeof space_mark - 1;
        for (size_t at = 0; at < whole.size();) {
            const bool is_space = whole.compare(at, mark, space_mark) == 0;
            if (!is_space)
                normal += whole[at];
            else if (at > 0)
                normal += ' ';
            at += is_space ? mark : 1;
        }
        return take(context, span(normal));
    });
}

Status sentencepiece_pieces(const SentencePiece *model, TextSpan text, TakeText *take, void *context)
{
    return guarded([&]() -> Status {
        std::vector<std::string> pieces;
        const auto status = model->processor.Encode(view(text), &pieces);
        if (!status.ok())
            return fail(STATUS_INPUT, "SentencePiece cannot encode: %s", message(status).c_str());
        std::string joined;
        for (const std::string &piece : pieces) {
            if (!joined.empty()) joined += ' ';
            joined += piece;
        }
        return take(context, span(joined));
    });
}

Status sentencepiece_train(const SentencePieceTraining *training, NextLine *next, void *context, char **bytes,
                           size_t *size)
{
    *bytes = nullptr;
    *size = 0;
    return guarded([&]() -> Status {
        Lines lines(next, context);
        if (lines.done()) return fail(STATUS_INPUT, "there is no line to make pieces of");
        std::string model;
        const auto status =
            sentencepiece::SentencePieceTrainer::Train(trainer_arguments(training), &lines, &model);
        if (!status.ok()) return training_failed(training, message(status));
        TRY(memory_new(bytes, model.size() + 1, 1, "a SentencePiece model"));
        std::memcpy(*bytes, model.data(), model.size());
        *size = model.size();
        return OK;
    });
}
