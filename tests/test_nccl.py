"""Training whose ranks exchange data through NCCL: a stand-in for the library, which takes host memory and goes
wrong when told to. The same curve at any number of ranks; and trouble ends all ranks soon, with a cause."""

import contextlib
import glob
import os
import re
import signal
import sys
import time

from jobs import COMMUNICATION, NUMERIC, SHORT, SKIP, Job, Suite, main, metrics, soon, wait_for

STAND_IN = os.environ.get("PLUMB_NCCL_STAND_IN", "")
NCCL = "collective=nccl"


def stand_in(fault=""):
    return {"LD_LIBRARY_PATH": STAND_IN, "NCCL_STAND_IN_FAULT": fault}


class Ranks(Suite):
    def test_same_curve(self):
        smooth = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001")
        for config, settings, tolerance in ((self.linear, (), 1e-5), (self.resnet, smooth, 1e-3),
                                            (self.linear, ("loss.name=mmce", "micro_batches=1"), 1e-5),
                                            (self.linear, ("micro_batches=2", "comm.bucket_bytes=64"), 1e-5)):
            alone = self.train(config, *settings)
            for ranks in (2, 3):
                with self.subTest(config=config, settings=settings, ranks=ranks):
                    run = self.train(config, NCCL, *settings, ranks=ranks, environment=stand_in())
                    self.assertIn(f"connects {ranks} ranks", self.job.output)
                    self.assertSameCurve(alone, run, tolerance)

    def test_same_bits_as_mpi(self):
        """With two ranks there is one order of summation only."""
        run = self.train(self.resnet, NCCL, ranks=2, environment=stand_in())
        self.assertEqual(metrics(run), metrics(self.train(self.resnet, ranks=2)))

    def test_one_rank_needs_no_nccl(self):
        self.assertEqual(metrics(self.train(self.linear, NCCL)), metrics(self.train(self.linear)))


class Trouble(Suite):
    @classmethod
    def tearDownClass(cls):
        """Memory that ranks would have shared, had all of them started: named after one that is gone."""
        for path in glob.glob("/dev/shm/nccl-stand-in-*"):
            if not os.path.exists(f"/proc/{path.split('-')[3]}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        super().tearDownClass()

    def refused(self, code, *texts, fault="", ranks=3, settings=(), environment=None):
        self.train(self.linear, NCCL, *settings, ranks=ranks, code=code,
                   environment=environment or stand_in(fault))
        for text in texts:
            self.assertIn(text, self.job.errors, self.said(self.job))

    def test_no_library(self):
        empty = f"{self.scratch}/empty"
        os.makedirs(f"{empty}/libnccl.so.2")  # found, and not a library
        self.refused(8, "NCCL, which moves data between GPUs, cannot be loaded", "libnccl.so.2",
                     environment={"LD_LIBRARY_PATH": empty})

    def test_versions_that_differ(self):
        self.refused(COMMUNICATION, "different versions of NCCL: 2.28.9 on rank 0, 2; 2.27.3 on rank 1",
                     fault="1:version:22703")

    def test_calls_that_do_not_block(self):
        self.refused(8, "NCCL_COMM_BLOCKING is 0", environment={"NCCL_COMM_BLOCKING": "0"})

    def test_version_that_is_too_old(self):
        self.refused(8, "NCCL 2.8.4 is too old", fault="1:version:2804")

    def test_operation_that_fails(self):
        self.refused(COMMUNICATION, "rank 1: NCCL: ncclAllReduce: unhandled system error: "
                     "the stand-in was told to fail", fault="1:fail:9")
        self.assertNotIn("second line", self.job.errors)

    def test_parameters_that_arrive_otherwise(self):
        """In the broadcast of the first ones."""
        self.refused(COMMUNICATION, "the starting parameters of rank 1", "differs", fault="1:nan:1")

    def test_nan_on_the_way(self):
        """In the gradient of one rank, as it is summed; all ranks stop at that step, and say what it is: the gradients
        themselves are finite."""
        for ranks in (2, 3):
            self.refused(NUMERIC, "step 1 (epoch 1, batch 1)", "the gradient's norm is not finite, but all gradients are "
                         "when the step is computed again", fault="1:nan:3", ranks=ranks)
            self.assertEqual(self.job.errors.count("error: "), 1, self.said(self.job))

    def test_rank_that_waits_for_ever(self):
        """In its 9th operation; nothing ends the wait of one that is stuck but the end of the process."""
        for fault in ("hang", "stuck"):
            with self.subTest(fault=fault):
                started = time.monotonic()
                self.refused(COMMUNICATION, f"waited {SHORT:g} s for operation ", "(sum of 7856 float32)",
                             fault=f"1:{fault}:9", settings=(f"comm.step_seconds={SHORT}",))
                self.assertLess(time.monotonic() - started, SHORT + 2 + soon())

    def test_error_that_shows_later(self):
        self.refused(COMMUNICATION, "NCCL: operation ", "(sum of 7856 float32): remote process exited or there was",
                     fault="1:error:9")

    def test_rank_that_never_starts(self):
        self.refused(COMMUNICATION, f"waited {SHORT:g} s for the start of NCCL", fault="1:start:0",
                     settings=(f"comm.timeout_seconds={SHORT}",))

    def test_killed_and_stopped_in_an_operation(self):
        for fault, what in (("kill", "its connection ended"), ("stop", r"it was last heard of (\d+) s ago")):
            for rank in (0, 1):
                with self.subTest(fault=fault, rank=rank):
                    job = Job(["train", self.linear, NCCL, f"comm.timeout_seconds={SHORT}", "--run", self.folder()], 3,
                              stand_in(f"{rank}:{fault}:9")).wait()
                    self.assertLess(job.seconds, SHORT + soon())
                    self.assertEqual(job.leftovers, [])
                    self.assertIn(job.code, (COMMUNICATION,) if fault == "stop" else (COMMUNICATION, 137))
                    if fault == "stop":  # mpirun itself may be faster to end the others after a death
                        self.assertIn(f"rank {rank} on host", job.errors, self.said(job))
                        self.assertRegex(job.errors, what, self.said(job))
                        self.assertGreaterEqual(int(re.search(what, job.errors)[1]), SHORT)

    def test_killed_and_stopped_at_any_moment(self):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            with self.subTest(number=number):
                run = self.folder()
                job = Job(["train", self.linear, NCCL, "epochs=1000000", f"comm.timeout_seconds={SHORT}", "--run", run], 2,
                          stand_in())
                wait_for(f"{run}/checkpoints/best.model.safetensors", job)
                self.assertTrue(job.signal("1", number))
                sent = time.monotonic()
                job.wait()
                self.assertLess(time.monotonic() - sent, SHORT + soon())
                self.assertEqual(job.leftovers, [])
                self.assertIn(job.code, (COMMUNICATION, 137))
                if number == signal.SIGSTOP:
                    self.assertRegex(job.errors, "rank 1 on host .* (is lost: it was last heard of|does not answer)")


if __name__ == "__main__":
    if not STAND_IN:
        print("skipped: built without NCCL's header")
        sys.exit(SKIP)
    main()
