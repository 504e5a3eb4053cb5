#!/usr/bin/env python3
"""Writes nlp/bleu/unicode_tables.h: the tables of characters that BLEU's tokenisers and lower case need.

    python3 nlp/bleu/make_unicode.py > nlp/bleu/unicode_tables.h && clang-format -i nlp/bleu/unicode_tables.h

The classes are those of the Python package `regex`, with which sacreBLEU's tokeniser `intl` finds them; lower case is that of
Python's str.lower. Both follow a version of Unicode, so the tables are frozen: a score must not change with a library. Which
letters str.lower takes for cased or for ignorable before and behind a capital sigma is asked of str.lower itself.
tests/test_unicode_tables.py compares the tables with this script's.
"""
import platform
import sys
import unicodedata
from importlib.metadata import version

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
    import regex  # here: the test of the other tables does not need it
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
    print(f"""/* Written by nlp/bleu/make_unicode.py with Python {platform.python_version()} (Unicode {unicodedata.unidata_version}) and its package regex {version("regex")}.
 * Only nlp/bleu/unicode.c includes it. */
#ifndef PLUMB_NLP_BLEU_UNICODE_TABLES_H
#define PLUMB_NLP_BLEU_UNICODE_TABLES_H

#include <stdint.h>
""")
    for name, letter in (("numbers", "N"), ("punctuation", "P"), ("symbols", "S")):
        table("uint32_t", name, f"First and last of the runs of {letter}*.", pairs(is_general(letter)))
    table("uint32_t", "cased", "First and last of the runs.", pairs(is_cased))
    table("uint32_t", "ignorable", "First and last of the runs.", pairs(is_ignorable))
    table("int32_t", "lower", "First, last, step (0: there is one only) and difference.",
          [number for row in lower_ranges() for number in row], "{}")
    print("#endif")


if __name__ == "__main__":
    sys.exit(main())
