"""Translating as a user does, with a small network that has learned a made corpus: one line for one in, in order and the same
whatever is translated together; what is too long, blank, wrong or cut off."""

import array
import json
import math
import os
import re
import shutil
import subprocess
import threading
import time

import test_translation_task as pairs
from jobs import (INPUT, IO, MEMORY, NO_GPUS, NUMERIC, PATIENCE, PLUMB, SHORT, UNSUPPORTED, USAGE, Job, Suite, checkpoint, floats, main,
                  on_gpus, safetensors, write_safetensors)
from plain_ter import right_words

# More epochs, and no dropout: a translator that is right often enough to be looked at.
CONFIG = pairs.CONFIG.replace("epochs: 2\n", "epochs: 20\n").replace("residual_dropout: 0.1", "residual_dropout: 0")


def environment():
    return dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


class Translate(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = f"{cls.scratch}/corpus"
        pairs.write_corpus(cls.data, 1)
        cls.config = cls.write_class("pairs.yaml", CONFIG.format(folder=cls.data, cache=f"{cls.scratch}/cache"))
        cls.run_folder = f"{cls.scratch}/translator"
        job = Job(["train", cls.config, "--run", cls.run_folder]).wait()
        if job.code != 0:
            raise AssertionError(job.said())
        with open(f"{cls.data}/test.en", encoding="utf-8") as file:
            lines = file.read().splitlines()
        # Blank lines between, and one that is much longer than the others.
        cls.lines = [line for i, text in enumerate(lines) for line in ([text, ""] if i % 5 == 0 else [text])]
        cls.lines.insert(7, " ".join(["dog", "sees", "red", "cat"] * 8))
        cls.text = "\n".join(cls.lines) + "\n"

    def translate(self, *options, text=None, ranks=0, code=0, run=None):
        """(output, errors) as text."""
        command = [PLUMB, "translate", run or self.run_folder, *options]
        if ranks > 0:
            command = ["mpirun", "-n", str(ranks), *command]
        data = (self.text if text is None else text)
        data = data if isinstance(data, bytes) else data.encode()
        done = subprocess.run(command, input=data, capture_output=True, env=environment(), timeout=300, check=False)
        errors = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, errors)
        return done.stdout.decode(), errors

    def assertSameTranslations(self, one, other, exact):
        """Lines "score TAB text"; scores to 1e-5, or the same."""
        self.assertEqual(one.count("\n"), other.count("\n"))
        for a, b in zip(one.split("\n"), other.split("\n"), strict=True):
            a, b = a.split("\t"), b.split("\t")
            self.assertEqual(a[1::2], b[1::2])
            for x, y in zip(a[0::2], b[0::2], strict=True):
                self.assertTrue(x == y if exact or not x else abs(float(x) - float(y)) < 1e-5, (x, y))

    def test_one_line_for_one_line(self):
        output, errors = self.translate()
        lines = output.split("\n")
        self.assertEqual(len(lines), len(self.lines) + 1)
        for source, translation in zip(self.lines, lines):
            self.assertEqual(source == "", translation == "", (source, translation))
        words = [w for line in lines for w in line.split()]
        self.assertGreater(sum(w in pairs.WORDS.values() for w in words), 0.6 * len(words))
        self.assertEqual(errors, "")

    def test_batches_and_ranks_change_nothing(self):
        want, _ = self.translate("--scores", "--nbest", "4", "--batch", "7")
        for batch in (1, 2, 64):
            with self.subTest(batch=batch):
                self.assertSameTranslations(self.translate("--scores", "--nbest", "4", "--batch", str(batch))[0], want, False)
        for ranks in (1, 2, 3):
            with self.subTest(ranks=ranks):
                self.assertSameTranslations(self.translate("--scores", "--nbest", "4", ranks=ranks)[0], want, False)
        want, _ = self.translate("--scores", "--deterministic", "--batch", "1")
        self.assertSameTranslations(self.translate("--scores", "--deterministic")[0], want, True)
        self.assertSameTranslations(self.translate("--scores", "--deterministic", ranks=2)[0], want, True)

    def test_progress_without_a_terminal(self):
        """Lines that come more than a second apart, so that it is time for progress between them."""
        for ranks in (0, 2):
            with self.subTest(ranks=ranks), self.open_pipe("--stream", "--progress", "1", ranks=ranks) as process:
                for _ in range(3):
                    process.stdin.write(b"dog red\n")
                    process.stdin.flush()
                    self.assertNotEqual(process.stdout.readline(), b"")
                    time.sleep(1.1)
                errors = process.communicate(timeout=PATIENCE)[1].decode()
                shown = re.findall(r"^(\d+) lines, [0-9.]+ lines/s, \d+ tokens/s", errors, re.MULTILINE)
                self.assertEqual(shown, sorted(set(shown)))  # nothing is said where there is no news
                self.assertEqual(shown[-1:], ["3"], errors)
        self.assertEqual(self.translate("--progress", "0")[1], "")

    def test_predict_says_what_translates(self):
        job = Job(["predict", self.run_folder]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("predicts no classes: it is a run on translation (parallel); plumb translate is for it", job.errors)

    def test_another_type_changes_few_words(self):
        want, _ = self.translate("--scores")
        self.assertEqual(self.translate("--scores", "--compute", "float32")[0], want)
        got, _ = self.translate("--scores", "--compute", "bfloat16")
        self.assertNotEqual(got, want)
        same = sum(a.split("\t")[1:] == b.split("\t")[1:] for a, b in zip(want.split("\n"), got.split("\n"), strict=True))
        self.assertGreater(same, 0.8 * len(self.lines))

    def test_a_run_of_a_gpu(self):
        """Its config asks for a GPU: where there is none the error says what to do, and --device cpu gives the same bits."""
        self.write("pairs.en", "dog\nred cat\n")
        self.write("pairs.de", "hund\nrot katze\n")
        files = ["--source", f"{self.scratch}/pairs.en", "--target", f"{self.scratch}/pairs.de"]
        run = on_gpus(self.run_folder, f"{self.folder()}/run")
        refused = Job(["translate", run], environment=NO_GPUS).wait()
        self.assertEnds(refused, UNSUPPORTED)
        self.assertIn("with --device cpu the CPU computes", refused.errors)
        self.assertEqual(self.translate("--scores", "--device", "cpu", run=run), self.translate("--scores", "--device", "cpu"))
        refused = Job(["score", run, *files], environment=NO_GPUS).wait()
        self.assertEnds(refused, UNSUPPORTED)
        self.assertIn("with --device cpu the CPU computes", refused.errors)
        here = Job(["score", run, *files, "--device", "cpu"]).wait()
        self.assertEnds(here, 0)
        self.assertEqual(here.output, Job(["score", self.run_folder, *files, "--device=cpu"]).wait().output)
        rough = Job(["score", run, *files, "--device", "cpu", "--compute", "bfloat16"]).wait()
        self.assertEnds(rough, 0)
        self.assertNotEqual(rough.output, here.output)
        for one, other in zip(rough.output.split(), here.output.split(), strict=True):
            self.assertAlmostEqual(float(one) / float(other), 1, delta=0.1)

    def test_the_first_of_many_is_the_best(self):
        best, _ = self.translate()
        many, _ = self.translate("--nbest", "3", "--beam", "4")
        self.assertEqual([line.split("\t")[0] for line in many.split("\n")], best.split("\n"))

    def test_greedy_text_is_the_same_at_any_temperature(self):
        want, _ = self.translate("--greedy", "--scores")
        for temperature in ("0.5", "2", "calibrated"):
            got, _ = self.translate("--greedy", "--scores", "--temperature", temperature)
            self.assertEqual([line.split("\t")[1:] for line in got.split("\n")],
                             [line.split("\t")[1:] for line in want.split("\n")])
        self.assertNotEqual(self.translate("--greedy", "--scores", "--temperature", "2")[0], want)

    def test_a_temperature_of_another_checkpoint_is_told(self):
        calibrated = ("--greedy", "--temperature", "calibrated")
        said = "was chosen for the checkpoint that was the last then"
        self.assertNotIn(said, self.translate(*calibrated)[1])
        with open(f"{self.run_folder}/evaluation.json", encoding="utf-8") as file:
            step = json.load(file)["step"]
        last = f"{self.run_folder}/checkpoints/step-{step:010}.model.safetensors"
        self.assertNotIn(said, self.translate(*calibrated, "--checkpoint", last)[1])
        with open(f"{self.run_folder}/evaluation.json", encoding="utf-8") as file:
            whole = file.read()
        with open(f"{self.run_folder}/evaluation.json", "w", encoding="utf-8") as file:
            file.write(whole.replace(f'"step":\t{step}', f'"step":\t{step - 1}'))
        try:
            self.assertIn(f"{said} (step {step - 1}), not for last", self.translate(*calibrated)[1])
        finally:
            with open(f"{self.run_folder}/evaluation.json", "w", encoding="utf-8") as file:
                file.write(whole)

    def test_samples_are_the_same_again(self):
        options = ("--sample", "--nbest", "2", "--deterministic", "--top-k", "20", "--top-p", "0.95")
        want, _ = self.translate(*options, "--seed", "5")
        self.assertEqual(self.translate(*options, "--seed", "5", "--batch", "3")[0], want)
        self.assertEqual(self.translate(*options, "--seed", "5", ranks=2)[0], want)
        self.assertNotEqual(self.translate(*options, "--seed", "6")[0], want)

    def test_json(self):
        output, _ = self.translate("--json", "--nbest", "2")
        plain, _ = self.translate("--scores")
        for number, (line, source, other) in enumerate(zip(output.splitlines(), self.lines, plain.splitlines(), strict=True)):
            entry = json.loads(line)
            self.assertEqual((entry["line"], entry["source"]), (number + 1, source))
            self.assertEqual(len(entry["hypotheses"]), 2 if source else 0)
            for hypothesis in entry["hypotheses"]:
                self.assertEqual(len(hypothesis["tokens"]), len(hypothesis["token_log_probabilities"]))
                self.assertAlmostEqual(sum(hypothesis["token_log_probabilities"]), hypothesis["log_probability"], places=6)
            if source:
                self.assertEqual(f"{entry['hypotheses'][0]['score']:.6f}\t{entry['hypotheses'][0]['text']}", other)

    def test_scores_have_any_length(self):
        """Numbers of more than forty digits, from a network whose logits are huge."""
        tensors, _ = safetensors(checkpoint(self.run_folder))
        name = "decoder.layers.0.final_layer_norm.weight"  # behind it there is only the output
        kind, data = tensors[name]
        tensors[name] = (kind, array.array("f", [1e36 * x for x in floats(data)]).tobytes())
        huge = f"{self.scratch}/huge.safetensors"
        write_safetensors(huge, tensors)
        output, _ = self.translate("--scores", "--checkpoint", huge, "--temperature", "0.001", "--alpha", "0",
                                   "--beam", "16", "--nbest", "16", text="dog red\n")
        fields = output.rstrip("\n").split("\t")
        self.assertEqual(len(fields), 32)
        self.assertLess(min(float(x) for x in fields[::2]), -1e36)
        self.assertTrue(all(x[-7] == "." for x in fields[::2]))
        self.write("source", "dog red\n" * 40)
        self.write("target", "gross gross gross hund\n" * 40)
        files = ["--source", f"{self.scratch}/source", "--target", f"{self.scratch}/target", "--checkpoint", huge]
        whole = Job(["score", self.run_folder, *files, "--temperature", "0.001"]).wait()
        tokens = Job(["score", self.run_folder, *files, "--temperature", "0.001", "--tokens"]).wait()
        self.assertEnds(whole, 0)
        self.assertEnds(tokens, 0)
        for score, each in zip(whole.output.splitlines(), tokens.output.splitlines(), strict=True):
            self.assertLess(float(score), -1e36)
            numbers = [float(x) for x in each.split(" ")]
            self.assertAlmostEqual(sum(numbers) / float(score), 1, places=9)

    def test_line_ends_and_marks_are_no_text(self):
        lines = ["dog red", "", "cat sees dog", "big green cat"]
        want, _ = self.translate("--scores", "--deterministic", text="\n".join(lines) + "\n")
        odd = "\ufeff" + "\r\n".join(lines) + "\r\n"
        self.assertEqual(self.translate("--scores", "--deterministic", text=odd), (want, ""))
        output, _ = self.translate("--json", text=odd)
        self.assertEqual([json.loads(line)["source"] for line in output.splitlines()], lines)
        prefixes = ["gross", "", "rot", ""]
        results = []
        for name, start, end in (("plain", "", "\n"), ("odd", "\ufeff", "\r\n")):
            self.write(name, start + "".join(prefix + end for prefix in prefixes))
            begun, errors = self.translate("--deterministic", "--prefix", f"{self.scratch}/{name}", text="\n".join(lines) + "\n")
            self.assertEqual(errors, "")
            self.write(f"{name}-source", start + "".join(line + end for line in lines))
            self.write(f"{name}-target", start + "".join("hund rot" + end for _ in lines))
            job = Job(["score", self.run_folder, "--source", f"{self.scratch}/{name}-source",
                       "--target", f"{self.scratch}/{name}-target", "--tokens"]).wait()
            self.assertEnds(job, 0)
            results.append((begun, job.output))
        self.assertEqual(results[0], results[1])

    def test_a_nul_is_replaced(self):
        output, errors = self.translate("--json", text="cat\0dog\n")
        self.assertEqual(json.loads(output)["source"], "cat\ufffddog")
        self.assertIn("or had a NUL (the first is line 1)", errors)

    def test_score_is_what_the_search_says(self):
        """Teacher forcing over whole sentences and the steps of the search are two ways to the same numbers."""
        output, _ = self.translate("--json")
        entries = [e for e in map(json.loads, output.splitlines()) if e["hypotheses"]]
        self.write("source", "".join(e["source"] + "\n" for e in entries))
        self.write("target", "".join(e["hypotheses"][0]["text"] + "\n" for e in entries))
        files = ["--source", f"{self.scratch}/source", "--target", f"{self.scratch}/target"]
        for ranks in (0, 2):
            whole = Job(["score", self.run_folder, *files], ranks=ranks).wait()
            tokens = Job(["score", self.run_folder, *files, "--tokens"], ranks=ranks).wait()
            self.assertEnds(whole, 0)
            same = 0
            for entry, score, each in zip(entries, whole.output.splitlines(), tokens.output.splitlines(), strict=True):
                each = [float(x) for x in each.split()]
                self.assertAlmostEqual(sum(each), float(score), delta=1e-4)
                best = entry["hypotheses"][0]
                if len(each) == len(best["tokens"]):  # the text may be split in another way than the search has built it
                    same += abs(float(score) - best["log_probability"]) < 1e-4
            self.assertGreater(same, 0.7 * len(entries))

    def test_odd_lines(self):
        text = "\ufeffdog red\n\n \u00a0\u2003\t\r\ncat".encode() + b"\xff\xc3 dog\n" + "red\tcat\rdog\u2028big\u0085cat\0dog\n".encode()
        text += ("cat dog " * 300).encode() + b"\ndog red"
        output, errors = self.translate(text=text)
        lines = output.split("\n")
        self.assertEqual(len(lines), 8)
        self.assertEqual(lines[1:3], ["", ""])
        self.assertTrue(all(lines[i] for i in (0, 3, 4, 5, 6)))
        self.assertEqual(lines[0], lines[6])
        self.assertIn("2 lines were no valid UTF-8 or had a NUL (the first is line 4)", errors)
        self.assertIn("1 line was longer than 255 tokens and cut (the first is line 6, with", errors)
        parts, errors = self.translate("--long", "split", "--longest", "20", text=text)
        self.assertGreater(len(parts.split("\n")[5]), 2 * len(lines[5]))
        self.assertIn("tokens and translated in parts", errors)
        self.assertEqual(self.translate(text="")[0], "")
        self.assertEqual(self.translate(text="\n\n")[0], "\n\n")
        self.assertEqual(self.translate(text="\n\ndog", ranks=2)[0].count("\n"), 3)

    def test_rules(self):
        """Limits, lengths and prefixes."""
        short, errors = self.translate("--max-length", "3", "--json")
        for line in short.splitlines():
            for hypothesis in json.loads(line)["hypotheses"]:
                self.assertLessEqual(len(hypothesis["tokens"]), 3)
                self.assertEqual(hypothesis["tokens"][-1], "</s>")
        self.assertIn("as long as --max-length allows", errors)
        longer, _ = self.translate("--min-length", "12", "--json", "--no-repeat", "3", text="dog\n")
        tokens = json.loads(longer)["hypotheses"][0]["tokens"]
        self.assertGreater(len(tokens), 12)
        triples = list(zip(tokens, tokens[1:], tokens[2:]))
        self.assertEqual(len(triples), len(set(triples)))
        self.write("prefix", "gross\n\nrot\n")
        begun, _ = self.translate("--prefix", f"{self.scratch}/prefix", text="dog red\ndog red\ndog red\n")
        begun = begun.splitlines()
        self.assertTrue(begun[0].startswith("gross") and begun[2].startswith("rot"), begun)
        _, errors = self.translate("--prefix", f"{self.scratch}/prefix", text="a\n" * 4, code=INPUT)
        self.assertIn("has 3 lines; line 4 of the input has no prefix", errors)
        with open(f"{self.scratch}/prefix", "wb") as file:
            file.write(b"gross\nrot\xff\n\n\n\n")
        begun, errors = self.translate("--prefix", f"{self.scratch}/prefix", text="dog\nred\n")
        self.assertEqual([line.split()[0][:3] for line in begun.splitlines()], ["gro", "rot"])
        self.assertIn("prefix: 1 line was no valid UTF-8 or had a NUL (the first is line 2)", errors)
        self.assertIn("prefix has 3 lines more than the input", errors)
        self.assertIn("error: line 2: its prefix has ",
                      self.translate("--prefix", f"{self.scratch}/prefix", "--max-length", "1", text="\ndog\n", code=INPUT)[1])
        for rules in ("tensor2tensor", "fairseq", "ctranslate2"):
            self.assertEqual(self.translate("--rules", rules)[0].count("\n"), len(self.lines))
        alone = ("--ends", "in_beam", "--stop", "finished", "--length-penalty", "power", "--limit", "cut", "--nbest", "4", "--json")
        for count_end in ("yes", "no"):
            for line in self.translate(*alone, "--count-end", count_end)[0].splitlines():
                for one in json.loads(line)["hypotheses"]:
                    length = len(one["tokens"]) - (count_end == "no" and one["ended"])
                    self.assertAlmostEqual(one["score"], one["log_probability"] / max(length, 1) ** 0.6, places=9)
        self.assertEqual(self.translate(*alone)[0], self.translate("--rules", "ctranslate2", "--nbest", "4", "--json")[0])
        self.assertNotEqual(self.translate("--ends", "anywhere", *alone[2:])[0], self.translate(*alone)[0])

    def open_pipe(self, *options, ranks=0, run=None):
        command = ["mpirun", "-n", str(ranks)] if ranks else []
        return subprocess.Popen([*command, PLUMB, "translate", run or self.run_folder, *options], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())

    def test_answers_before_the_input_ends(self):
        for ranks, options in ((0, ()), (2, ("--stream",))):
            with self.subTest(ranks=ranks), self.open_pipe(*options, ranks=ranks) as process:
                guard = threading.Timer(120, process.kill)
                guard.start()
                for text in ("dog red", "", "cat sees dog"):
                    process.stdin.write(text.encode() + b"\n")
                    process.stdin.flush()
                    self.assertEqual(process.stdout.readline().strip() == b"", text == "")
                process.stdin.close()
                self.assertEqual(process.stdout.read(), b"")
                self.assertEqual(process.wait(), 0)
                guard.cancel()

    def test_a_line_that_bans_leave_nothing_to(self):
        """No token comes twice and the end token comes late: of all methods nothing is left at some time."""
        text = "dog red\n\ncat sees dog\n"
        for options in (("--batch", "1"), ("--greedy",), ("--sample",), ("--json",)):
            with self.subTest(options=options):
                output, errors = self.translate("--no-repeat", "1", "--min-length", "200", "--max-length", "220", *options, text=text)
                if options == ("--json",):
                    self.assertEqual([json.loads(line)["hypotheses"] for line in output.splitlines()], [[], [], []])
                else:
                    self.assertEqual(output, "\n\n\n")
                self.assertIn("2 lines were left empty, as all continuations are banned (the first is line 1)", errors)
        output, errors = self.translate("--no-repeat", "1", "--min-length", "200", "--max-length", "220", text="\ndog\n", ranks=2)
        self.assertEqual(output, "\n\n")
        self.assertIn("1 line was left empty, as all continuations are banned (the first is line 2)", errors)

    def test_a_line_of_too_many_parts_is_cut(self):
        output, errors = self.translate("--longest", "2", "--long", "split", "--greedy", "--max-length", "1", "--batch", "8192",
                                        text="dog " * 70000 + "\n")
        self.assertEqual(output.count("\n"), 1)
        self.assertIn("1 line was longer than 1 token and translated in parts", errors)
        self.assertIn("1 line was cut behind 65536 parts", errors)

    def test_errors_name_the_line(self):
        tensors, _ = safetensors(checkpoint(self.run_folder))
        name = "decoder.layers.0.final_layer_norm.weight"
        kind, data = tensors[name]
        tensors[name] = (kind, array.array("f", [3e38 for _ in floats(data)]).tobytes())
        wrong = f"{self.scratch}/wrong.safetensors"
        write_safetensors(wrong, tensors)
        for options in ((), ("--sample",)):
            _, errors = self.translate("--checkpoint", wrong, *options, text="\n\ndog red\n", code=NUMERIC)
            self.assertIn("error: line 3: ", errors)

    def test_corpora_of_little_text(self):
        """Lines that are shorter than SentencePiece's least limit are made pieces of; without any text there is an error."""
        folder = f"{self.scratch}/little"
        pairs.write_corpus(folder, 2)
        config = self.write_class("little.yaml", CONFIG.format(folder=folder, cache=f"{self.scratch}/little-cache"))
        for name in ("train", "val"):
            for language, words in (("en", ("a", "b")), ("de", ("c", "d"))):
                with open(f"{folder}/{name}.{language}", "w", encoding="utf-8") as file:
                    file.write("".join(f"{words[i % 2]} {words[i % 3 % 2]}\n" for i in range(40)))
        job = Job(["train", config, "--run", f"{self.scratch}/little-run", "epochs=1", "subwords.size=9"]).wait()
        self.assertEnds(job, 0)
        with open(f"{folder}/train.de", "w", encoding="utf-8") as file:
            file.write(" \n" * 40)
        job = Job(["train", config, "--run", f"{self.scratch}/blank-run", "epochs=1", "subwords.size=9"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("no line of ", job.errors)
        self.assertIn("train.de has text", job.errors)

    def test_ranks_wait_for_input(self):
        """Longer than a rank waits for the others: those hear of rank 0 meanwhile."""
        patient = f"{self.scratch}/patient"
        shutil.copytree(self.run_folder, patient)
        with open(f"{patient}/config.yaml", encoding="utf-8") as file:
            config, count = re.subn(r"timeout_seconds: \S+", f"timeout_seconds: {SHORT / 2}", file.read())
        self.assertEqual(count, 1)
        with open(f"{patient}/config.yaml", "w", encoding="utf-8") as file:
            file.write(config)
        with self.open_pipe(run=patient, ranks=2) as process:
            guard = threading.Timer(PATIENCE, process.kill)
            guard.start()
            process.stdin.write(b"dog red\n")
            process.stdin.flush()
            time.sleep(SHORT)
            output, errors = process.communicate(b"cat\n")
            self.assertEqual(process.returncode, 0, errors)
            self.assertEqual(output.count(b"\n"), 2)
            guard.cancel()

    def test_a_closed_pipe_is_an_end(self):
        script = f"yes 'dog red cat' | '{PLUMB}' translate '{self.run_folder}' --batch 2 | head -n 2; echo ${{PIPESTATUS[1]}}"
        done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
        lines = done.stdout.decode().splitlines()
        self.assertEqual((len(lines), lines[-1], done.stderr), (3, "0", b""))

    def test_models_of_the_run_and_of_elsewhere(self):
        """By name, by file, and the mean of one model."""
        last, _ = self.translate("--scores")
        newest = max(name for name in os.listdir(f"{self.run_folder}/checkpoints")
                     if name.startswith("step-") and name.endswith(".model.safetensors"))
        path = f"{self.scratch}/elsewhere.safetensors"
        shutil.copy(f"{self.run_folder}/checkpoints/{newest}", path)
        self.assertEqual(self.translate("--scores", "--checkpoint", path)[0], last)
        self.assertEqual(self.translate("--scores", "--checkpoint", newest.removesuffix(".model.safetensors"))[0], last)
        job = Job(["translate", self.run_folder, "--checkpoint", "average"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("plumb average", job.errors)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PLUMB, "translate", self.run_folder], input=b"dog\n", stdout=full, stderr=subprocess.PIPE,
                                  timeout=120, check=False)
        self.assertEqual(done.returncode, IO)
        self.assertIn(b"the standard output cannot be written: No space left", done.stderr)

    def test_what_is_refused(self):
        for words, code, message in (
                ((), USAGE, "plumb translate needs a run"),
                ((f"{self.scratch}/nothing",), IO, "there is no run"),
                ((self.data,), INPUT, "is no run"),
                ((self.run_folder, "--beam", "65"), USAGE, "from 1 to 64"),
                ((self.run_folder, "--nbest", "5"), USAGE, "a beam of 4"),
                ((self.run_folder, "--max-length", "5y"), USAGE, "--max-length takes A+Bx"),
                ((self.run_folder, "--temperature", "0"), USAGE, "temperature"),
                ((self.run_folder, "--rules", "moses"), USAGE, "--rules takes"),
                ((self.run_folder, "--ends", "never"), USAGE, "--ends takes anywhere or in_beam, not never"),
                ((self.run_folder, "--count-end", "1"), USAGE, "--count-end takes no or yes, not 1"),
                ((self.run_folder, "--compute", "int8"), USAGE, "--compute takes float32 or bfloat16"),
                ((self.run_folder, "--greedy", "--sample"), USAGE, "two ways"),
                ((self.run_folder, "--json", "--scores"), USAGE, "--scores is for plain lines"),
                ((self.run_folder, "--min-length", "9", "--max-length", "9"), USAGE, "--min-length 9 leaves no place for the end"),
                ((self.run_folder, "--max-length", "1000000", "--batch", "65536"), MEMORY, "a search of 65536 sentences at a time"),
                ((self.run_folder, "--top-k", "3"), USAGE, "for --sample"),
                ((self.run_folder, "--checkpoint", "epoch-9999"), INPUT, "holds no checkpoint epoch-9999")):
            with self.subTest(words=words):
                job = Job(["translate", *words]).wait()
                self.assertEnds(job, code)
                self.assertIn(message, job.errors)
        self.write("one", "dog\n")
        self.write("two", "hund\nrot\n")
        job = Job(["score", self.run_folder, "--source", f"{self.scratch}/one", "--target", f"{self.scratch}/two"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("one has 1 line, and", job.errors)
        self.write("one", "dog\n" + " " * (1 << 22) + "dog\n")
        job = Job(["score", self.run_folder, "--source", f"{self.scratch}/one", "--target", f"{self.scratch}/two"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("one, line 2 has more than 4194304 bytes", job.errors)

    def test_another_vocabulary_is_refused(self):
        """A checkpoint goes with its subwords."""
        other = f"{self.scratch}/other"
        job = Job(["train", self.config, "--run", other, "epochs=1", "subwords.size=50"]).wait()
        self.assertEnds(job, 0)
        os.replace(f"{other}/subwords.model", f"{other}/subwords.kept")
        with open(f"{self.run_folder}/subwords.model", "rb") as file, open(f"{other}/subwords.model", "wb") as to:
            to.write(file.read())
        job = Job(["translate", other]).wait()
        self.assertEnds(job, INPUT)
        self.assertRegex(job.errors, "safetensors, with .*other/subwords.model: the checkpoint was trained with another vocabulary")
        with open(f"{other}/subwords.model", "wb"):
            pass
        job = Job(["translate", other]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("subwords.model", job.errors)


    def plumb_bleu(self, hypotheses):
        path = self.write("hypotheses", hypotheses)
        job = Job(["bleu", f"{self.data}/test.de", "-i", path, "-b", "-w", "9"]).wait()
        self.assertEnds(job, 0)
        return float(job.output)

    def test_bleu_against_temperature(self):
        """At any temperature that of what translate writes; kept for the report, which draws it."""
        run, path = f"{self.scratch}/curves", f"{self.scratch}/curves.json"
        shutil.copytree(self.run_folder, run)
        with open(f"{self.data}/test.en", encoding="utf-8") as file:
            text = file.read()
        want = [self.plumb_bleu(self.translate("--temperature", temperature, text=text)[0]) for temperature in ("0.5", "1", "1.5")]
        self.assertEqual(len(set(want)) > 1 or want[0] > 99, True, want)
        for ranks in (0, 2):
            job = Job(["evaluate", run, "--temperatures", "0.5:1.5:0.5", "--bleu", "--bootstrap", "0", "--json", path,
                       "--html", f"{path}.html"], ranks).wait()
            self.assertEnds(job, 0)
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            curve = found["temperatures"]
            for got, bleu in zip(curve["test"]["bleu"], want, strict=True):
                self.assertAlmostEqual(got, bleu, places=6)
            for part in ("test", "validation"):
                self.assertTrue(0 < curve[part]["accuracy"] <= 1)
            self.assertAlmostEqual(curve["test"]["accuracy"], 1 - found["before"]["error"], places=9)
            self.assertIn("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0", curve["bleu_signature"])
            self.assertIn("test BLEU", job.output)
            with open(f"{run}/temperatures.json", encoding="utf-8") as file:
                kept = json.load(file)
            self.assertEqual({key: kept[key] for key in curve}, curve)
            self.assertEqual((kept["step"], kept["sentences"], kept["chosen"]), (found["step"], 40, found["temperature"]))
        with open(f"{path}.html", encoding="utf-8") as file:
            self.assertIn("Test BLEU against temperature", file.read())
        page = self.report(run)
        self.assertIn("BLEU and calibration against temperature", page)
        self.assertIn("Test BLEU against temperature", page)
        self.assertIn(">Tokens/s</th>", page)
        self.assertNotIn("26.33", page)  # the paper's best is of another data set
        self.assertNotIn("dotted: the paper's best", page)
        with open(f"{run}/config.yaml", encoding="utf-8") as file:
            config = file.read()
        self.write("curves/config.yaml", config.replace("name: parallel", "name: wmt14_en_de"))
        page = self.report(run)
        self.assertIn("26.36", page)
        self.assertIn("dotted: the paper's best", page)
        self.write("curves/temperatures.json", '{"temperature": [1, 2], "test": {"bleu": [1]}}')
        self.assertNotIn("against temperature", self.report(run, "temperatures.json is damaged"))

    def report(self, run, errors=""):
        job = Job(["report", run, "--output", "-"]).wait()
        self.assertEnds(job, 0)
        self.assertIn(errors, job.errors)
        return job.output

    def test_inference_calibration(self):
        """Of whole words, so that the tokens are what the files have; beside plain code."""
        run, path = f"{self.scratch}/words", f"{self.scratch}/words.json"
        self.assertEnds(Job(["train", self.config, "--run", run, "subwords.type=none", "epochs=12"]).wait(), 0)
        with open(f"{self.data}/test.de", encoding="utf-8") as file:
            references = [line.split() for line in file]
        with open(f"{self.data}/test.en", "rb") as file:
            done = subprocess.run([PLUMB, "translate", run, "--json"], stdin=file, capture_output=True, timeout=300, check=True)
        confidence, right = [], []
        for line, reference in zip(done.stdout.decode().splitlines(), references, strict=True):
            best = json.loads(line)["hypotheses"][0]
            tokens = best["tokens"][:-1] if best["ended"] else best["tokens"]
            confidence += [math.exp(number) for number in best["token_log_probabilities"][:len(tokens)]]
            right += right_words(tokens, reference)
        gaps = [0.0] * 20
        for sure, good in zip(confidence, right, strict=True):
            gaps[min(int(sure * 20), 19)] += good - sure
        for ranks in (0, 2):
            job = Job(["evaluate", run, "--inference", "--bootstrap", "0", "--json", path], ranks).wait()
            self.assertEnds(job, 0)
            with open(path, encoding="utf-8") as file:
                found = json.load(file)["before"]
            self.assertTrue(0 < found["weighted_ece"] < 1)
            got = found["inference"]
            self.assertEqual(got["tokens"], len(right))
            self.assertAlmostEqual(got["accuracy"], sum(right) / len(right), places=9)
            self.assertAlmostEqual(got["mean_confidence"], sum(confidence) / len(right), places=4)
            self.assertAlmostEqual(got["ece"], sum(map(abs, gaps)) / len(right), places=3)
            self.assertEqual(sum(one["count"] for one in got["bins"]), len(right))
            self.assertIn("right by TER's alignment", job.output)
        self.assertTrue(0 < sum(right) < len(right), "all right or none: nothing is tested")

    def test_what_evaluate_refuses(self):
        for words, text in (((self.run_folder, "--bleu"), "--bleu is measured at the temperatures of --temperatures"),
                            (("--logits", "a.npy", "--labels", "b.npy", "--bleu"), "--bleu is for a run of translation"),
                            (("--logits", "a.npy", "--labels", "b.npy", "--inference"), "--inference is for a run of translation"),
                            ((self.run_folder, "--ignore-label", "3"), "--ignore-label is for files")):
            job = Job(["evaluate", *words]).wait()
            self.assertEnds(job, USAGE)
            self.assertIn(text, job.errors, self.said(job))
        for words, text in ((("--bleu", "--temperatures", "500:1500:500"), "--bleu: a temperature is 0.001 to 1000, not 1500"),
                            (("--inference", "--temperature-grid", "1:2000:100"), "--inference: a temperature is 0.001 to 1000, not 2000")):
            job = Job(["evaluate", self.run_folder, *words]).wait()
            self.assertEnds(job, INPUT)
            self.assertIn(text, job.errors, self.said(job))
        images = f"{self.scratch}/images"
        self.assertEnds(Job(["train", self.linear, "--run", images, "epochs=1", "evaluate.bootstrap=0"]).wait(), 0)
        for option in ("--inference", "--bleu"):
            job = Job(["evaluate", images, option, "--temperatures", "1:2:1"]).wait()
            self.assertEnds(job, UNSUPPORTED)
            self.assertIn(f"{option} is of translations: ", job.errors, self.said(job))

    def test_scores_are_answered_as_pairs_come(self):
        """Through pipes that stay open."""
        names = [f"{self.scratch}/pipe.{language}" for language in ("en", "de")]
        for name in names:
            os.mkfifo(name)
        process = subprocess.Popen([PLUMB, "score", self.run_folder, "--source", names[0], "--target", names[1]],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        with open(names[0], "w", encoding="utf-8") as source, open(names[1], "w", encoding="utf-8") as target:
            for _ in range(2):
                source.write("red dog\n")
                source.flush()
                target.write("hund rot\n")
                target.flush()
                self.assertLess(float(process.stdout.readline()), 0)
            source.write("red\n")
        _, errors = process.communicate()
        guard.cancel()
        self.assertEqual(process.returncode, INPUT, errors)
        self.assertIn(b"pipe.de has 2 lines, and", errors)


del pairs.TranslationTask  # its tests are its own


if __name__ == "__main__":
    main()
