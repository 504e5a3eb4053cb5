#!/usr/bin/env python3
"""Writes tests/bleu_cases.json with sacreBLEU 2.6.0: what it prints for small texts in which each of its traps stands.

    python3 -m venv /tmp/judge && /tmp/judge/bin/pip install sacrebleu==2.6.0 && /tmp/judge/bin/python tests/bleu_cases.py

test_bleu_command.py runs the same commands and compares the output to the byte, but for the version in signatures. Run it beside
NumPy 2; what sacreBLEU can print beside NumPy 1 only is in the golden sets.
"""
import json
import os
import subprocess
import sys
import tempfile

FILES = {
    "ref": ["The cat sat on the mat.", "It costs 1,000.50 dollars, doesn't it?", "", "Donald's dog, the “old” one — barks.", "a b c d e f g",
            "ΟΔΟΣ 5 İSTANBUL", "x\u00a0y\u2028z\u0085w\u3000v", "中文𠀀 text → here", "3-4 a-b &amp; &quot;c&quot; <skipped>", "One two three four.",
            "The end of it all.", "short"],
    "ref2": ["A cat sat on a mat.", "That is 1,000.50 dollars!", "not empty", "Donald's old dog barks.", "g a b c d e f", "Odos 5 Istanbul", "x y z w v",
             "中 文 text", "3 - 4 a-b & \"c\"", "one two three four .", "The end.", "shorter"],
    "base": ["The cat sat on a mat.", "It costs 1,000.50 dollars, does not it?", "", "Donald's dog the “old” one barks—", "e f g a b c d",
             "οδος 5 i̇stanbul", "x y z w v", "中文 text here→", "3-4 a-b & \"c\"", "One three two four.", "The end of all.", "short"],
    "better": ["The cat sat on the mat.", "It costs 1,000.50 dollars, doesn't it?", "", "Donald's dog, the “old” one — barks.", "a b c d e f",
               "ΟΔΟΣ 5 İSTANBUL", "x\u00a0y\u2028z\u0085w\u3000v", "中文𠀀 text here", "3-4 a-b &amp; &quot;c&quot;", "One two four three.",
               "The end of it all.", "short"],
    "worse": ["", "costs dollars", "something", "dog", "z", "5", "w", "→", "4-3", "four three two One", "end The", "long"],
    "empty": [""] * 12,
    "blank": ["", " ", "a", "", "b"],
    "one": ["a b"],
    "pair": ["a\tb c", "d e f\tg", "h i\tj\tk"],
    "pair.hyp": ["a", "d e f", "j\tk"],
    "ragged": ["a\tb", "c\t"],
    "carriage": ["a b c\rd e f", "g h"],
    "words": ["word %d ." % (i % 7) for i in range(12)],
}



def made_words(count, kinds, seed):
    """Words that repeat: TER tries many shifts."""
    words = []
    for _ in range(count):
        seed = (1103515245 * seed + 12345) % 2**31
        words.append("w%d" % (seed // 65536 % kinds))
    return words


# TER's limits: 1,000 shifts tried, 10 words in a shift, 50 places, the beam of 25 and its widening.
LONG = [(made_words(90, 3, 1), made_words(80, 3, 2)), (made_words(60, 2, 3), made_words(60, 2, 4)), (made_words(40, 100, 5), made_words(40, 100, 5)[14:] + made_words(40, 100, 5)[:14]),
        (made_words(70, 1000, 6), made_words(70, 1000, 6)[55:] + made_words(70, 1000, 6)[:55]), (made_words(120, 1000, 7), made_words(2, 1000, 7)),
        (made_words(2, 1000, 8), made_words(110, 1000, 8)), (made_words(80, 1000, 9), made_words(30, 1000, 10) + made_words(80, 1000, 9)[:50])]
FILES["long.ref"] = [" ".join(reference) for reference, _ in LONG]
FILES["long"] = [" ".join(hypothesis) for _, hypothesis in LONG]

# (arguments, the file whose text comes on the standard input or None, environment)
RUNS = [("ref -i base " + options, None, {}) for options in (
    "", "-f text", "-b", "-w 4", "-sh -f text", "-tok intl", "-tok intl -lc -w 3", "-tok zh", "-tok char -lc", "-tok none", "-s floor -w 6",
    "-s floor -sv 0.5 -f text", "-s add-k -sv 1.5", "-s none", "-l en-zh", "-m ter -w 5", "-m ter --ter-normalized -w 5",
    "-m ter --ter-normalized --ter-asian-support --ter-no-punct --ter-case-sensitive", "-m chrf -w 7", "-m chrf -cw 2 --chrf-lowercase -w 7",
    "-m chrf --chrf-whitespace --chrf-eps-smoothing -cc 4 --chrf-beta 1 -w 7", "-m ter chrf bleu -f text", "-m bleu chrf ter -w 2",
    "-ci", "-ci -cin 77 -w 12 -m bleu chrf ter -f text", "-ci -b -m bleu ter", "-d", "-f latex", "-sl -w 3", "-sl -b -m chrf", "-sl -m ter -sh")]
RUNS += [("ref ref2 -i base " + options, None, {}) for options in ("-w 8", "-m bleu chrf ter -w 12 -ci -f text", "-sl -m ter -b -w 4", "-m chrf -cw 2 -w 9")]
RUNS += [("ref -i base better worse " + options, None, {}) for options in (
    "", "-f text", "-f latex -m ter chrf", "-b -f text -m chrf -w 0", "--paired-bs", "-pbs -pbsn 50 -f text -m ter bleu -w 3",
    "-pbs -f latex -w 2 -sh", "-pbs -s add-k -sv 0.5 -w 10 -f text", "-par -m bleu chrf ter", "--paired-ar -parn 77 -f text -s add-k -sv 0.5",
    "-par -parn 200 -m ter -j 2 -tok char")]
RUNS += [("ref ref2 -i base better worse " + options, None, {}) for options in ("-pbs -m ter chrf -w 12 -f text", "-par -parn 300 -m ter -f text -w 9")]
RUNS += [
    ("ref -i base base better -pbs -pbsn 5 -f text", None, {}), ("ref -i base base", None, {}), ("ref -i base better -ci", None, {}),
    ("ref -i base -pbs", None, {}), ("ref -i pair", None, {}), ("ref", "base", {}), ("-f text ref", "base", {}), ("-qbw3 ref", "base", {}),
    ("ref --inp base --wid=3 --tok intl", None, {}), ("-- ref", "base", {}), ("ref -i base -f text ref2", None, {}), ("-m bleu ref", "base", {}),
    ("ref -f", "base", {}), ("ref --conf", "base", {}), ("ref -w x", "base", {}), ("ref -tok nothing", "base", {}), ("-sl -m bleu chrf ref", "base", {}),
    ("ref -i base -ci -cin 5 -f text -w 6", None, {"SACREBLEU_SEED": "007"}), ("ref -i base better -pbs -f text -w 6", None, {"SACREBLEU_SEED": " 98_765432109876543210"}),
    ("ref -i base -ci -cin 5", None, {"SACREBLEU_SEED": "-3"}), ("ref -i base", None, {"SACREBLEU_FORMAT": "Text"}), ("ref -i base", None, {"SACREBLEU_FORMAT": "x"}),
    ("ref -i empty -m bleu chrf ter", None, {}), ("empty -i base -m bleu chrf ter", None, {}), ("empty -i empty -m bleu chrf ter", None, {}),
    ("blank -i blank -m chrf ter bleu -sl", None, {}), ("blank -i blank -m bleu -sl", None, {}), ("blank -i blank -m ter -sl", None, {}), ("one -i one", None, {}),
    ("one -i one -sl", None, {}), ("one -i one -ci", None, {}), ("pair.hyp -i pair.hyp -f text", None, {}), ("one", "pair", {}), ("pair.hyp", "pair", {}),
    ("pair -nr 2 -i pair.hyp -f text -m bleu ter", None, {}), ("ragged -nr 2 -i one", None, {}), ("pair -nr 3 -i pair.hyp", None, {}), ("ref ref2 -nr 2 -i base", None, {}),
    ("carriage -i carriage -f text", None, {}), ("carriage", "carriage", {}), ("pair.hyp -f text", "carriage", {}), ("words -i words -w 3", None, {}),
    ("long.ref -i long -m ter -sl -w 6", None, {}), ("long -i long.ref -m ter -sl -w 6", None, {}), ("long.ref long -i long -m ter chrf bleu -w 6", None, {})]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    cases = {"sacrebleu": "2.6.0", "files": FILES, "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in FILES.items():
            with open(f"{folder}/{name}", "w", encoding="utf-8", newline="") as file:
                file.write("".join(line + "\n" for line in lines))
        for arguments, standard_input, environment in RUNS:
            given = "".join(line + "\n" for line in FILES[standard_input]) if standard_input else ""
            done = subprocess.run([os.path.join(os.path.dirname(sys.executable), "sacrebleu")] + arguments.split(), cwd=folder, input=given.encode(),
                                  env={**os.environ, **environment}, capture_output=True, check=False)
            run = {"arguments": arguments}
            if standard_input:
                run["input"] = standard_input
            if environment:
                run["environment"] = environment
            if done.returncode == 0:
                run["output"] = done.stdout.decode()
            cases["runs"].append(run)  # without output: it failed
    with open(f"{here}/bleu_cases.json", "w", encoding="utf-8") as file:
        json.dump(cases, file, ensure_ascii=False, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
