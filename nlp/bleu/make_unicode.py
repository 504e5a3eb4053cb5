#!/usr/bin/env python3
"""Writes nlp/bleu/unicode.c: the tables of characters that BLEU's tokenisers and lower case need.

    python3 nlp/bleu/make_unicode.py > nlp/bleu/unicode.c && clang-format -i nlp/bleu/unicode.c

The classes are those of the Python package `regex`, with which sacreBLEU's tokeniser `intl` finds them; lower case is that of
Python's str.lower. Both follow a version of Unicode, so the tables are frozen: a score must not change with a library. Which
letters str.lower takes for cased or for ignorable before and behind a capital sigma is asked of str.lower itself.
"""
import platform
import sys
import unicodedata
from importlib.metadata import version

import regex

CODES = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]


def pairs(belongs):
    """First and last of each run of characters that belong."""
    found = []
    for code in CODES:
        if not belongs(chr(code)):
            continue
        if found and found[-1] == code - 1:
            found[-1] = code
        else:
            found += [code, code]
    return found


def is_general(letter):
    pattern = regex.compile(rf"\p{{{letter}}}")
    return lambda character: pattern.match(character) is not None


# How str.lower treats a character when it asks whether a capital sigma ends a word.
def is_cased(character):
    return (character + "Σ").lower().endswith("ς")


def is_ignorable(character):
    return not is_cased(character) and ("A" + character + "Σ").lower().endswith("ς")


def lower_ranges():
    """[first, last, step, difference] of the characters that become one other; the only one that becomes two is U+0130."""
    found = []
    for code in CODES:
        lower = chr(code).lower()
        if lower == chr(code):
            continue
        if len(lower) > 1:
            assert code == 0x130 and lower == "i\u0307", hex(code)
            continue
        difference = ord(lower) - code
        if found and found[-1][3] == difference:
            step = code - found[-1][1]
            if step <= 2 and found[-1][2] in (0, step):
                found[-1][1:3] = [code, step]
                continue
        found.append([code, code, 0, difference])
    return found


def table(kind, name, comment, numbers, form="0x{:X}"):
    print(f"/* {comment} */\nstatic const {kind} {name}[] = {{" + ", ".join(form.format(number) for number in numbers) + "};\n")


def main():
    print(f"""/* Written by nlp/bleu/make_unicode.py with Python {platform.python_version()} (Unicode {unicodedata.unidata_version}) and its package regex {version("regex")}. */
#include "nlp/bleu/unicode.h"

#include <stddef.h>
""")
    for name, letter in (("numbers", "N"), ("punctuation", "P"), ("symbols", "S")):
        table("uint32_t", name, f"First and last of the runs of {letter}*.", pairs(is_general(letter)))
    table("uint32_t", "cased", "First and last of the runs.", pairs(is_cased))
    table("uint32_t", "ignorable", "First and last of the runs.", pairs(is_ignorable))
    table("int32_t", "lower", "First, last, step (0: there is one only) and difference.",
          [number for row in lower_ranges() for number in row], "{}")
    print("""/* The first of `count` groups of `width` numbers whose second is not below `code`. */
static size_t search(const uint32_t table[], size_t count, size_t width, uint32_t code)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (table[middle * width + 1] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_in(const uint32_t pair[], size_t size, uint32_t code)
{
    const size_t count = size / sizeof *pair / 2, at = search(pair, count, 2, code);
    return at < count && pair[2 * at] <= code;
}

UnicodeClass unicode_class(uint32_t code)
{
    if (is_in(punctuation, sizeof punctuation, code)) return UNICODE_PUNCTUATION;
    if (is_in(numbers, sizeof numbers, code)) return UNICODE_NUMBER;
    return is_in(symbols, sizeof symbols, code) ? UNICODE_SYMBOL : UNICODE_OTHER;
}

bool unicode_is_cased(uint32_t code) { return is_in(cased, sizeof cased, code); }

bool unicode_is_ignorable(uint32_t code) { return is_in(ignorable, sizeof ignorable, code); }

uint32_t unicode_lower(uint32_t code)
{
    const size_t count = sizeof lower / sizeof *lower / 4;
    const size_t at = search((const uint32_t *)lower, count, 4, code);
    if (at == count) return code;
    const int32_t *row = &lower[4 * at], from_first = (int32_t)code - row[0];
    if (from_first < 0 || (row[2] > 1 && from_first % row[2] != 0)) return code;
    return (uint32_t)((int32_t)code + row[3]);
}""")


if __name__ == "__main__":
    sys.exit(main())
