"""plumb doctor: what it finds out, and what it warns of."""

import os
import re
import unittest

import jobs
from jobs import Suite, main, plumb

ON_HOST = os.environ.get("PLUMB_ON_HOST", "build/tests/on_host/plumb")
STAND_IN = os.environ.get("PLUMB_NCCL_STAND_IN", "")
LIBRARIES = os.environ.get("PLUMB_DEVICE_LIBRARIES", "")
OLD_DRIVER = os.environ.get("PLUMB_DRIVER_STAND_IN", "")


class Doctor(Suite):
    def on_host(self, ranks, **variables):
        program, jobs.PLUMB = jobs.PLUMB, ON_HOST
        try:
            return plumb("doctor", ranks=ranks, environment=dict(LD_LIBRARY_PATH=f"{STAND_IN}:{LIBRARIES}", **variables))
        finally:
            jobs.PLUMB = program

    def test_one_rank(self):
        job = plumb("doctor", "cpu")
        self.assertEnds(job, 0)
        for text in ("plumb 0.", "one rank alone", "oneDNN", "float32 multiply-adds"):
            self.assertIn(text, job.output)
        self.assertNotIn("sums of float32", job.output)

    def test_two_ranks(self):
        job = plumb("doctor", "cpu", ranks=2)
        self.assertEnds(job, 0)
        self.assertIn("Open MPI" if "Open MPI" in job.output else "connected by", job.output)
        sums = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)$", job.output, re.M)
        self.assertGreaterEqual(len(sums), 3, self.said(job))
        for size, milliseconds, speed, bus in sums:
            if int(size) >= 1 << 20:  # else three digits of a millisecond are too few
                self.assertAlmostEqual(float(speed), int(size) / float(milliseconds) / 1e6, delta=0.01 + 0.01 * float(speed))
            self.assertAlmostEqual(float(bus), float(speed), delta=0.02)  # 2 (n - 1) / n is 1

    def test_mpirun_over_several_hosts(self):
        for hosts, idle, warned in (("2", None, True), ("2", "300", True), ("2", "10", False), ("1", None, False)):
            with self.subTest(hosts=hosts, idle=idle):
                variables = {"OMPI_MCA_orte_num_nodes": hosts}
                if idle is not None:
                    variables["OMPI_MCA_oob_tcp_keepalive_time"] = idle
                job = plumb("doctor", "cpu", environment=variables)
                self.assertEnds(job, 0)
                (self.assertIn if warned else self.assertNotIn)("--mca oob_tcp_keepalive_time", job.output)

    def test_words(self):
        self.assertEnds(plumb("doctor", "gpu"), jobs.USAGE)
        self.assertEnds(plumb("doctor", "--help"), 0)
        if not os.path.exists("/dev/nvidiactl"):
            self.assertEnds(plumb("doctor", "cuda"), jobs.UNSUPPORTED)

    @unittest.skipIf(OLD_DRIVER == "", "built without CUDA")
    def test_driver_older_than_the_toolkit(self):
        job = plumb("doctor", environment={"LD_LIBRARY_PATH": OLD_DRIVER})
        self.assertEnds(job, 0)
        self.assertRegex(job.output, r"Warnings\n(.*\n)*  - this build could use GPUs, but: the NVIDIA driver is too old")
        refused = plumb("doctor", "cuda", environment={"LD_LIBRARY_PATH": OLD_DRIVER})
        self.assertEnds(refused, jobs.UNSUPPORTED)
        self.assertIn("the NVIDIA driver is too old", refused.errors)

    @unittest.skipIf(STAND_IN == "", "built without NCCL's header")
    def test_gpu_that_is_shared(self):
        """NCCL refuses such ranks: the doctor says so itself, and asks it only where it is told to take them."""
        job = self.on_host(2, PLUMB_TEST_IDENTITY="GPU-1")
        self.assertEnds(job, 0)
        self.assertIn("NCCL refuses ranks that share a GPU", job.output)
        self.assertIn("ranks 0 and 1 share one GPU", job.output)
        told = self.on_host(2, PLUMB_TEST_IDENTITY="GPU-1", NCCL_MULTI_RANK_GPU_ENABLE="1")
        self.assertEnds(told, 0)
        self.assertIn("sums of float32 over 2 ranks", told.output)
        self.assertIn("ranks 0 and 1 share one GPU", told.output)
        apart = self.on_host(2)
        self.assertEnds(apart, 0)
        self.assertNotIn("share one GPU", apart.output)


if __name__ == "__main__":
    main()
