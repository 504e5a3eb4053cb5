"""Training on the CUDA kernels, executed on the host, equals training on the CPU; PLUMB_ON_HOST is that program.

Device memory can be read by kernels and copies alone (PLUMB_TEST_GUARD), a step is recorded once and replayed
(PLUMB_TEST_RECORD), and work is done as late as it may be (PLUMB_TEST_LATE), as on a GPU: whatever the host would slip
in between is missing then."""

import json
import os
import time
import unittest

import jobs
from jobs import EVERY_STEP, Suite, dynamics, main, metrics, results

ON_HOST = os.environ.get("PLUMB_ON_HOST", "build/tests/on_host/plumb")
STAND_IN = os.environ.get("PLUMB_NCCL_STAND_IN", "")  # for NCCL
LIBRARIES = os.environ.get("PLUMB_DEVICE_LIBRARIES", "")  # stand-ins of cuDNN and cuBLASLt
AS_A_GPU = {"LD_LIBRARY_PATH": LIBRARIES, "PLUMB_TEST_GUARD": "1", "PLUMB_TEST_RECORD": "1", "PLUMB_TEST_LATE": "1"}


class Cuda(Suite):
    def on_cuda(self, config, *overrides, ranks=0, environment=None, **options):
        program, jobs.PLUMB = jobs.PLUMB, ON_HOST
        try:
            return self.train(config, "device=cuda", *overrides, ranks=ranks, environment=environment or AS_A_GPU,
                              **options)
        finally:
            jobs.PLUMB = program

    def assertSame(self, config, *settings, tolerance=1e-5):
        with self.subTest(settings=settings):
            self.assertSameCurve(self.train(config, "device=cpu", *settings), self.on_cuda(config, *settings),
                                 tolerance)

    def test_losses(self):
        for loss in (["cross_entropy"], ["brier"], ["mmce"], ["mmce_weighted"], ["label_smoothing"],
                     ["focal", "loss.policy=schedule", "loss.gammas=[5,3]", "loss.gamma_epochs=[1]"],
                     ["focal", "loss.policy=sample"]):
            self.assertSame(self.linear, "loss.name=" + loss[0], *loss[1:])

    def test_networks(self):
        small = ("dataset.train_limit=96", "dataset.validation=48", "optimizer.learning_rate=0.001")
        self.assertSame(self.resnet, *small)
        self.assertSame(self.resnet, *small, "model.name=wide_resnet", "model.depth=8", "model.widen=1",
                        "model.dropout=0.3")
        self.assertSame(self.resnet, *small, "epochs=1", "model.name=densenet121", "model.blocks=[1,1,1,1]",
                        "model.width=4", tolerance=1e-4)
        self.assertSame(self.resnet, *small, "compute=bfloat16", tolerance=3e-2)

    def test_ways_to_step(self):
        self.assertSame(self.linear, "micro_batches=3")
        self.assertSame(self.linear, "batch=100", "loss.reduction=mean")  # ragged: 240 samples
        self.assertSame(self.resnet, "dataset.train_limit=32", "optimizer.learning_rate=0.001")  # of 48
        self.assertSame(self.linear, "graph=false")

    def test_what_is_recorded(self):
        """Norms and gradients at the last layer, which a kernel and the host make of what the device has."""
        record = ("epochs=1", "evaluate.train=true", "evaluate.gradient_norms=[1]", "evaluate.train_reliability=[1]",
                  "optimizer.learning_rate=0.001", "dataset.train_limit=96", "dataset.validation=48")
        for settings, tolerance in (((), 1e-4), (("compute=bfloat16",), 3e-2)):
            runs = (self.on_cuda(self.resnet, *record, *settings), self.train(self.resnet, *record, *settings, "device=cpu"))
            (found,), (wanted,) = (dynamics(run) for run in runs)
            self.assertEqual(found["gradient_norms"]["samples"], 96)
            self.assertEqual(len(found["train_reliability"]["bins"]), 25)
            self.assertAlmostEqual(found["gradient_norms"]["mean"] / wanted["gradient_norms"]["mean"], 1, delta=tolerance)
            norms, others = (metrics(run)[0]["norms"] for run in runs)
            for norm in ("weights", "features", "logits"):
                self.assertAlmostEqual(norms[norm] / others[norm], 1, delta=tolerance)

    def test_table_that_is_too_large_for_the_gpu(self):
        streamed = self.on_cuda(self.linear, environment=dict(AS_A_GPU, PLUMB_TEST_MEMORY="1000000"))
        self.assertEqual(metrics(streamed), metrics(self.on_cuda(self.linear)))

    def test_step_that_is_measured(self):
        """perf/train_step does the same work on both devices, recorded or not."""
        program = os.path.join(os.path.dirname(ON_HOST), "train_step")
        small = ("--size", "8", "--steps", "3", "model.name=resnet8", "model.width=4", "batch=8", "optimizer.learning_rate=0.001")
        losses = {}
        for settings in (("device=cpu",), ("device=cuda",), ("device=cuda", "graph=false"), ("device=cuda", "--profile")):
            job = jobs.Job((), command=[program, *small, *settings], environment=AS_A_GPU).wait()
            self.assertEnds(job, 0)
            measured = json.loads(job.output)
            losses[settings] = measured["loss"]
            # The best step is a step: no interval in which the device had nothing to do.
            self.assertLess(measured["best_images_per_second"], 100 * measured["images_per_second"])
        for settings, loss in losses.items():
            self.assertAlmostEqual(loss, losses["device=cpu",], delta=1e-4, msg=settings)

    @unittest.skipIf(STAND_IN == "", "built without NCCL's header")
    def test_ranks(self):
        """The sums of ranks are part of the recorded step."""
        environment = dict(AS_A_GPU, LD_LIBRARY_PATH=f"{STAND_IN}:{LIBRARIES}")
        smooth = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001", "dataset.train_limit=192", "epochs=1")
        for config, settings, tolerance in ((self.linear, (), 1e-5), (self.linear, ("loss.name=mmce",), 1e-5),
                                            (self.linear, ("micro_batches=4", "comm.bucket_bytes=64"), 1e-5),
                                            (self.linear, ("comm.gradients=bfloat16",), 2e-2),
                                            (self.resnet, smooth, 5e-3)):
            alone = self.on_cuda(config, *settings)
            for ranks in (2, 3):
                with self.subTest(config=config, settings=settings, ranks=ranks):
                    run = self.on_cuda(config, *settings, ranks=ranks, environment=environment)
                    self.assertIn(f"connects {ranks} ranks", self.job.output)
                    self.assertSameCurve(alone, run, tolerance)

    def test_same_bits_after_a_kill(self):
        undisturbed = self.on_cuda(self.resnet, EVERY_STEP)
        run = self.folder()
        self.on_cuda(self.resnet, EVERY_STEP, run=run, code=-9, fault={"FAULT": "tear:50", "FAULT_FOLDER": run})
        self.on_cuda(self.resnet, EVERY_STEP, run=run)
        self.assertSameResults(results(run), results(undisturbed))


class Trouble(Suite):
    """Each with a clear message."""

    def refused(self, code, *texts, program=ON_HOST, ranks=0, environment=None, settings=(), config=None):
        command = [program, "train", config or self.resnet, "device=cuda", *settings, "--run", self.folder()]
        job = jobs.Job([], environment=dict(AS_A_GPU, **(environment or {})),
                       command=["mpirun", "-n", str(ranks), *command] if ranks else command).wait()
        self.assertEnds(job, code)
        for text in texts:
            self.assertIn(text, job.errors)

    def test_memory_of_the_gpu(self):
        self.refused(jobs.MEMORY, "the arena of activations needs", "of a GPU that has 3000000", "the largest of them",
                     "float32[48, 28, 28,", environment={"PLUMB_TEST_MEMORY": "3000000"})

    @unittest.skipIf(STAND_IN == "", "built without NCCL's header")
    def test_ranks_that_share_a_gpu(self):
        shared = {"PLUMB_TEST_IDENTITY": "GPU-1", "LD_LIBRARY_PATH": f"{STAND_IN}:{LIBRARIES}"}
        self.refused(jobs.INPUT, "ranks 0 and 1 share one GPU", "share_gpus", ranks=2, environment=shared)

    @unittest.skipIf("" in (STAND_IN, LIBRARIES), "built without the headers of NCCL and cuDNN")
    def test_nan_of_one_rank(self):
        """The sum over ranks has it everywhere; the message names the rank and the tensor it comes from."""
        environment = {"CUDNN_STAND_IN_NAN_RANK": "1", "LD_LIBRARY_PATH": f"{STAND_IN}:{LIBRARIES}"}
        for record in ("true", "false"):
            self.refused(jobs.NUMERIC, "step 1 (epoch 1, batch 1)", "rank 1: ", "the gradient of", ".weight", "NaN",
                         ranks=2, environment=environment, settings=("graph=" + record,))

    def test_step_that_cannot_be_recorded(self):
        """One rank goes on without, with the same bits, and says so; several end, for all must do the same."""
        run, plain = self.folder(), self.folder()
        for folder, environment, settings in ((run, {"PLUMB_TEST_RECORD_MOST": "20"}, ()), (plain, {}, ("graph=false",))):
            command = [ON_HOST, "train", self.resnet, "device=cuda", *settings, "--run", folder]
            job = jobs.Job([], environment=dict(AS_A_GPU, **environment), command=command).wait()
            self.assertEnds(job, 0)
            self.assertEqual(job.errors.count("warning: the step cannot be recorded"), int(folder == run), self.said(job))
        self.assertEqual(metrics(run), metrics(plain))
        if STAND_IN:
            several = {"PLUMB_TEST_RECORD_MOST": "20", "LD_LIBRARY_PATH": f"{STAND_IN}:{LIBRARIES}"}
            self.refused(jobs.UNSUPPORTED, "this much cannot be recorded", ranks=2, environment=several)

    @unittest.skipIf(STAND_IN == "", "built without NCCL's header")
    def test_failure_in_a_recorded_step(self):
        """NCCL's abort returns when the recordings with its operations are gone: who drops them must not be the one who waits."""
        environment = {"NCCL_STAND_IN_FAULT": "1:error:60", "LD_LIBRARY_PATH": f"{STAND_IN}:{LIBRARIES}"}
        started = time.monotonic()
        self.refused(jobs.COMMUNICATION, "remote process exited", ranks=2, environment=environment, config=self.linear,
                     settings=("epochs=1000000",))
        self.assertLess(time.monotonic() - started, 2 + jobs.soon())

    def test_no_gpu(self):
        """The program itself, on a machine without a GPU."""
        if not os.path.exists("/dev/nvidiactl"):
            self.refused(jobs.UNSUPPORTED, "with device=cpu the CPU computes", program=jobs.PLUMB)

    @unittest.skipIf(LIBRARIES == "", "built without cuDNN's header")
    def test_library_that_cannot_be_loaded(self):
        self.write("broken/libcudnn.so.9", "")
        self.refused(jobs.UNSUPPORTED, "cuDNN 9", "cannot be loaded", "LD_LIBRARY_PATH",
                     environment={"LD_LIBRARY_PATH": f"{self.scratch}/broken"})


if __name__ == "__main__":
    main()
