"""plumb bleu against what sacreBLEU printed: byte for byte but for the version in signatures; and the warnings of its own."""

import json
import os
import re
import shutil
import subprocess

from jobs import INPUT, IO, PLUMB, UNSUPPORTED, USAGE, Suite, main, plumb

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = re.compile(rb"2\.6\.0\+plumb\.\d+\.\d+\.\d+")


def golden_sets():
    """Folders with a manifest, as the suites in C find them."""
    top = os.environ.get("PLUMB_TEST_GOLDEN", os.path.join(HERE, "..", "..", "shared", "golden"))
    for folder in [top] + sorted(entry.path for entry in os.scandir(top) if entry.is_dir()) if os.path.isdir(top) else []:
        if os.path.exists(f"{folder}/manifest.json"):
            with open(f"{folder}/manifest.json", encoding="utf-8") as file:
                yield folder, json.load(file)


class Bleu(Suite):
    def bleu(self, arguments, text="", environment=None, folder=None):
        """(exit code, standard output with sacreBLEU's own version, errors)"""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SACREBLEU") and name != "NO_COLOR"}
        words = arguments.split() if isinstance(arguments, str) else arguments
        done = subprocess.run([os.path.abspath(PLUMB), "bleu"] + words, cwd=folder or self.texts, input=text.encode(),
                              env={**clean, **(environment or {})}, capture_output=True, check=False)
        return done.returncode, VERSION.sub(b"2.6.0", done.stdout).decode(), done.stderr.decode(errors="replace")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(f"{HERE}/bleu_cases.json", encoding="utf-8") as file:
            cls.cases = json.load(file)
        cls.texts = os.path.join(cls.scratch, "texts")
        os.mkdir(cls.texts)
        for name, lines in cls.cases["files"].items():
            cls.put(name, "".join(line + "\n" for line in lines))

    @classmethod
    def put(cls, name, text):
        with open(f"{cls.texts}/{name}", "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def assertSays(self, arguments, said, **more):
        code, output, errors = self.bleu(arguments, **more)
        self.assertEqual(code, 0, errors)
        self.assertIn(said, errors)
        code, quiet, errors = self.bleu(arguments + " -q", **more)
        self.assertEqual((code, quiet, errors), (0, output, ""))

    def assertRefuses(self, arguments, code, said, **more):
        found, output, errors = self.bleu(arguments, **more)
        self.assertEqual((found, output), (code, ""), errors)
        self.assertIn(said, errors)


class AsSacrebleu(Bleu):
    def test_cases(self):
        for run in self.cases["runs"]:
            given = run.get("input")
            text = "".join(line + "\n" for line in self.cases["files"][given]) if given else ""
            with self.subTest(run["arguments"], **run.get("environment", {})):
                code, output, errors = self.bleu(run["arguments"], text, run.get("environment"))
                if "output" in run:
                    self.assertEqual(code, 0, errors)
                    self.assertEqual(output, run["output"])
                else:
                    self.assertNotEqual(code, 0)
                    self.assertEqual(output, "")

    def test_golden_command_lines(self):
        compared = 0
        for folder, manifest in golden_sets():
            for case in manifest["cases"]:
                if case["kind"] not in ("sacrebleu_cli", "bleu_bootstrap", "bleu_randomisation"):
                    continue
                where = os.path.join(folder, case["params"].get("folder", ""))
                if case["inputs"]:  # systems are named by their files, which have other names in the set
                    where = self.folder()
                    os.makedirs(where, exist_ok=True)
                    for name, path in case["inputs"].items():
                        shutil.copy(os.path.join(folder, path), f"{where}/{name}.txt")
                for run in case["expected"].get("runs", []) + case["expected"].get("command_line", []):
                    with open(os.path.join(folder, run["output"]), encoding="utf-8", newline="") as file:
                        wanted = file.read()
                    text = ""
                    if "standard_input" in run:
                        with open(f"{where}/{run['standard_input']}", encoding="utf-8", newline="") as file:
                            text = file.read()
                    with self.subTest(case["id"], arguments=run["arguments"]):
                        code, output, errors = self.bleu(run["arguments"], text, folder=where)
                        self.assertEqual((code, output), (0, wanted), errors)
                        if run.get("same_with_--input"):
                            again = self.bleu(run["arguments"] + ["-i", run["standard_input"]], folder=where)
                            self.assertEqual(again[:2], (0, wanted), again[2])
                    compared += 1
        if compared == 0:
            self.skipTest("no set has command lines of sacreBLEU")

    def test_pieces(self):
        """A model that stands where sacreBLEU keeps its own; the numbers are what sacreBLEU printed with it."""
        rows = (("news14_en.ref0.txt news14_en.ref1.txt -i news14_en.hyp.txt -tok flores101 -w 9 -f text",
                 "BLEU|nrefs:2|case:mixed|eff:no|tok:flores101|smooth:exp|version:2.6.0 = 76.772605472 90.4/81.0/72.9/65.0 "
                 "(BP = 1.000 ratio = 1.013 hyp_len = 2434 ref_len = 2402)\n"),
                ("flickr17_de.ref0.txt -i flickr17_de.hyp.txt -tok spm -lc -sh -w 9 -f text",
                 "BLEU|#:1|c:lc|e:no|tok:flores101|s:exp|v:2.6.0 = 68.434446817 85.7/73.7/63.5/54.7 "
                 "(BP = 1.000 ratio = 1.015 hyp_len = 2614 ref_len = 2576)\n"),
                ("tricky.ref0.txt -i tricky.hyp.txt -tok flores200 -w 9 -f text",
                 "BLEU|nrefs:1|case:mixed|eff:no|tok:flores200|smooth:exp|version:2.6.0 = 61.384886333 79.3/64.0/55.9/50.0 "
                 "(BP = 1.000 ratio = 1.079 hyp_len = 367 ref_len = 340)\n"))
        found = [(folder, case) for folder, manifest in golden_sets() for case in manifest["cases"] if case["kind"] == "subwords"]
        found = [(folder, case) for folder, case in found if os.path.exists(f"{folder}/bleu/tricky.ref0.txt")
                 and case["id"] == "sentencepiece/multi30k_joint_8000"]
        if not found:
            self.skipTest("no set has this SentencePiece model")
        folder, case = found[0]
        model = os.path.join(folder, case["inputs"]["model"])
        home = self.folder()
        os.makedirs(f"{home}/.sacrebleu/models")
        for name in ("sacrebleu_tokenizer_spm.model", "flores200sacrebleuspm"):
            shutil.copy(model, f"{home}/.sacrebleu/models/{name}")
        for arguments, wanted in rows:
            for environment in ({"HOME": home}, {"SACREBLEU": f"{home}/.sacrebleu"}):
                self.assertEqual(self.bleu(arguments, environment=environment, folder=f"{folder}/bleu")[:2], (0, wanted))
        output = self.bleu(rows[2][0].replace("-tok flores200", f"--spm-model {model}"), folder=f"{folder}/bleu")[1]
        self.assertRegex(output, r"\|tok:spm-[0-9a-f]{16}\|")
        self.assertEqual(output.split(" = ")[1:], rows[2][1].split(" = ")[1:])
        self.assertRefuses(f"ref -i base -tok intl --spm-model {model}", USAGE, "goes with --tokenize spm only")

    def test_no_model(self):
        self.assertRefuses("ref -i base -tok spBLEU-1K", INPUT, "spbleu-1k_tokenizer_spm.model, where sacreBLEU puts it", environment={"HOME": "/nowhere"})
        self.assertRefuses("ref -i base --spm-model ref", INPUT, "ref is no SentencePiece model")

    def test_version(self):
        code, output, _ = self.bleu("--version")
        self.assertEqual((code, output), (0, "plumb bleu 2.6.0\n"))
        done = subprocess.run([os.path.abspath(PLUMB), "bleu", "ref", "-i", "base", "-f", "text"], cwd=self.texts, capture_output=True, check=True)
        self.assertRegex(done.stdout.decode(), r"\|version:2\.6\.0\+plumb\.\d+\.\d+\.\d+ = ")

    def on_terminal(self, arguments, environment=None):
        """What a terminal gets, lines ended by LF."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SACREBLEU") and name != "NO_COLOR"}
        ours, its = os.openpty()
        job = subprocess.Popen([os.path.abspath(PLUMB), "bleu"] + arguments.split(), cwd=self.texts, stdin=subprocess.DEVNULL, stdout=its,
                               stderr=subprocess.DEVNULL, env={**clean, **(environment or {})})
        os.close(its)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # the terminal's other end is closed
            pass
        os.close(ours)
        self.assertEqual(job.wait(), 0)
        return shown.replace(b"\r\n", b"\n").decode()

    def test_colours(self):
        arguments = "ref -i base better worse -pbs -pbsn 50 -f text"
        plain, shown = self.bleu(arguments)[1], VERSION.sub(b"2.6.0", self.on_terminal(arguments).encode()).decode()
        self.assertEqual(re.sub("\033\\[\\d+m", "", shown), plain)
        for part in ("\033[36mSystem\033[0m", "\033[33mBaseline: base\033[0m", "\033[32mNull hypothesis\033[0m:", "are \033[31mhighlighted in red\033[0m."):
            self.assertIn(part, shown)
        self.assertTrue(shown.endswith("\033[0m"))
        for environment, more in (({"NO_COLOR": "1"}, ""), ({}, " -nc")):
            self.assertNotIn("\033", self.on_terminal(arguments + more, environment))
        self.assertIn(" \033[36m(μ = ", self.on_terminal("ref -i base -ci -f text"))

    def test_several_ranks(self):
        """The first one works, and prints once."""
        job = plumb("bleu", f"{self.texts}/ref", "-i", f"{self.texts}/base", "-b", ranks=2)
        self.assertEnds(job, 0)
        self.assertEqual(job.output, self.bleu("ref -i base -b")[1])

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([os.path.abspath(PLUMB), "bleu", "ref", "-i", "base", "-sl"], cwd=self.texts, stdout=full,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, IO)
        self.assertIn("cannot be written", done.stderr.decode())


class OnItsOwn(Bleu):
    def test_seed_zero_is_a_seed(self):
        """sacreBLEU takes a seed of 0 for none in paired tests: its p-values differ each time, and there is nothing to equal."""
        arguments = "ref -i base better -pbs -pbsn 50 -w 9 -f text"
        first = self.bleu(arguments, environment={"SACREBLEU_SEED": "0"})
        self.assertEqual(first, self.bleu(arguments, environment={"SACREBLEU_SEED": "0"}))
        self.assertIn("|seed:0|", first[1])
        self.assertNotEqual(first[1], self.bleu(arguments, environment={"SACREBLEU_SEED": "1"})[1])
        none = [self.bleu(arguments, environment={"SACREBLEU_SEED": "None"}) for _ in range(2)]
        self.assertIn("|seed:none|", none[0][1])
        self.assertNotEqual(none[0][1], none[1][1])

    def test_lengths(self):
        self.assertRefuses("ref -i one", INPUT, "one has 1 line, but ref has 12")
        self.assertRefuses("ref one -i base", INPUT, "one has 1 line, but ref has 12")
        self.assertRefuses("ref", INPUT, "the standard input has 2 lines, but ref has 12", text="a\nb\n")
        self.assertRefuses("ref", INPUT, "the standard input has no line")
        self.put("nothing", "")
        self.assertRefuses("nothing -i nothing", INPUT, "nothing has no line")

    def test_bytes(self):
        self.put("latin1", b"a\nb caf\xe9\n")
        self.assertRefuses("latin1 -i latin1", INPUT, "latin1:2: the byte 0xE9 in column 6 is not UTF-8")
        self.put("nul", b"a\x00b c\n")
        self.assertEqual(self.bleu("nul -i nul -sl -b")[:2], (0, "100.0\n"))
        self.put("mark", b"\xef\xbb\xbfa b\n")
        self.assertSays("mark -i one", "mark begins with a byte order mark")
        self.put("zipped.gz", b"no gzip")
        self.assertRefuses("zipped.gz -i one", INPUT, "not a gzip file")
        self.assertRefuses("absent -i one", IO, "absent")

    def test_warnings(self):
        tokens = "".join(f"w{i} x y z .\n" for i in range(150))
        self.put("tokens", tokens)
        self.put("others", "".join(f"w{i} x y .\n" for i in range(150)))
        self.assertSays("others -i tokens", "150 of 150 lines of tokens end in \" .\"")
        for fine in ("others -i tokens --force", "others -i tokens -m chrf", "others -i tokens --compound-split"):
            self.assertEqual(self.bleu(fine)[2], "")
        self.assertSays("tokens -i tokens --force", "all 150 lines of tokens are equal to a reference")
        self.assertSays("one -i one", "no hypothesis has 3 words, so BLEU is 0")
        self.assertEqual(self.bleu("ref -i base")[2], "")

    def test_effective_order(self):
        code, output, errors = self.bleu("one -i one --effective-order -f text")
        self.assertEqual((code, errors), (0, ""))
        self.assertTrue(output.startswith("BLEU|nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.6.0 = 100.0 "), output)

    def test_compound_split(self):
        """Its number has a name of its own."""
        self.put("compound.ref", "the well-known a-b-c x - y -z z- word\n")
        self.put("compound", "the well-known a-b-c x - y -z z- words\n")
        code, output, errors = self.bleu("compound.ref -i compound --compound-split -f text")
        self.assertEqual((code, errors), (0, ""))
        self.assertTrue(output.startswith("BLEU-compound-split|nrefs:1|case:mixed|eff:no|tok:none-compound-split|"), output)
        self.assertIn("hyp_len = 13 ", output)  # well ##AT##-##AT## known; a ##AT##-##AT## b-c: a character belongs to one match
        self.assertIn("compound-split", self.bleu("compound.ref -i compound --compound-split")[1])
        self.assertRefuses("compound.ref -i compound --compound-split -tok intl", USAGE, "--tokenize none only")
        self.assertRefuses("compound.ref -i compound --compound-split -m chrf", USAGE, "is for BLEU")

    def test_varying_references(self):
        self.put("var", "a b c d\ta b c\ne f g h\n\ti j k l\tx\n")
        self.put("var.hyp", "a b c\ne f g\ni j k\n")
        code, output, errors = self.bleu("var -nr var -i var.hyp -f text -m bleu ter")
        self.assertEqual(code, 0, errors)
        self.assertIn("BLEU|nrefs:var|", output)
        self.assertIn("hyp_len = 9 ref_len = 11)", output)
        self.assertIn("TER|nrefs:var|", output)
        self.put("same", "a\tb\nc\td\n")
        self.put("same.hyp", "a\nd\n")
        self.assertIn("|nrefs:2|", self.bleu("same -nr var -i same.hyp -f text")[1])
        self.assertEqual([line.split("|")[1] for line in self.bleu("var -nr var -i var.hyp -sl")[1].splitlines()], ["nrefs:2", "nrefs:1", "nrefs:2"])
        self.put("none", "a\n\n")
        self.assertRefuses("none -nr var -i one", INPUT, "none:2: no reference")

    def test_what_is_refused(self):
        for arguments, code, text in (
                ("-t wmt14/full -l en-de", UNSUPPORTED, "knows no test sets and downloads nothing"),
                ("--list", UNSUPPORTED, "test sets"), ("ref -i base -e latin1", UNSUPPORTED, "iconv"),
                ("ref -i base -tok ja-mecab", UNSUPPORTED, "no tokeniser ja-mecab"), ("ref -i base -l en-ja", UNSUPPORTED, "no tokeniser ja-mecab"),
                ("ref -i base -tok 14a", USAGE, "--tokenize is one of 13a, none, char, zh, intl, spm, flores101, flores200, spBLEU-1K, not '14a'"),
                ("ref -i base --tokenise intl", USAGE, "did you mean --tokenize?"), ("ref -i base --c", USAGE, "several options"),
                ("ref -i base -w", USAGE, "--width needs a value"), ("ref -i base -pbs -par", USAGE, "exclude each other"),
                ("ref -i base -cc 0 -m chrf", USAGE, "1 to 64"), ("-i base", USAGE, "needs a file of references"), ("ref -i", USAGE, "--input needs a file"),
                ("ref -i base -nr 0", USAGE, "--num-refs is a whole number from 1"), ("ref -i base -qz", USAGE, "takes no value")):
            self.assertRefuses(arguments, code, text)
        self.assertEqual(self.bleu("ref -i base -cc 0"), self.bleu("ref -i base"))  # what is not measured is not looked at


if __name__ == "__main__":
    main()
