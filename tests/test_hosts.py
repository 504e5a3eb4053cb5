"""Ranks on two hosts: namespaces of this machine, each with a name and a network card of its own and a cable between
them. The same numbers as on one host; and when the cable is pulled all ranks end soon, naming the host that is gone.
Needs root."""

import os
import re
import subprocess
import time
import unittest

from jobs import COMMUNICATION, PLUMB, SHORT, SKIP, Job, Suite, contents, main, metrics, soon, wait_for

NAMES = ("plumb-a", "plumb-b")
ADDRESSES = ("198.18.0.1", "198.18.0.2")  # of a range that is for tests


def mpirun_version():
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Open MPI\)? (\d+)", said)
    return int(found[1]) if found else 0


class Host:
    """It is there as long as the process that holds it."""

    def __init__(self, name):
        self.holder = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c",
                                        f"hostname {name} && ip link set lo up && echo there && exec sleep 86400"],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.there = self.holder.stdout.readline() == "there\n"
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net", "--uts"]

    def does(self, command):
        return subprocess.run([*self.enter, "sh", "-ec", command], check=False).returncode == 0

    def remove(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def gone(name):
    return f"rank [0-3] on host {name} (is lost|does not answer)"


class Hosts(Suite):
    def setUp(self):
        self.hosts = []
        for name in NAMES:
            self.hosts.append(Host(name))
            self.addCleanup(self.hosts[-1].remove)
        first, second = self.hosts
        cable = f"ip link add card type veth peer name card netns {second.holder.pid}"
        made = first.there and second.there and first.does(cable)
        for host, address in zip(self.hosts, ADDRESSES):
            made = made and host.does(f"ip address add {address}/24 dev card; ip link set card up")
        if not made:
            self.skipTest("hosts cannot be made here")

    def start_by_hand(self, *settings):
        """Two ranks on each host, which find one another through a file."""
        run = self.folder()
        variables = {"PLUMB_RENDEZVOUS": f"{run}.rendezvous", "WORLD_SIZE": "4"}
        jobs = [Job((), environment=dict(variables, RANK=str(rank)),
                    command=[*self.hosts[rank // 2].enter, PLUMB, "train", self.linear, *settings, "--run", run])
                for rank in range(4)]
        return run, jobs

    def start_mpirun(self, *settings, environment=None):
        """The same; whoever starts processes on the other host for mpirun need not be ssh."""
        run = self.folder()
        agent = self.write("agent", f"#!/bin/sh\nshift\nexec {' '.join(self.hosts[1].enter)} sh -c \"$*\"\n")
        os.chmod(agent, 0o700)
        places = ",".join(f"{address}:2" for address in ADDRESSES)
        job = Job((), environment=dict(environment or {}, OMPI_MCA_plm_rsh_agent=agent, PRTE_MCA_plm_ssh_agent=agent),
                  command=[*self.hosts[0].enter, "mpirun", "--host", places, "-n", "4", PLUMB, "train", self.linear,
                           *settings, "--run", run])
        return run, job

    def pull_cable(self, run, *jobs):
        wait_for(f"{run}/checkpoints/best.model.safetensors", *jobs)
        self.assertTrue(self.hosts[1].does("ip link set card down"))
        return time.monotonic()

    def test_by_hand(self):
        run, jobs = self.start_by_hand()
        for job in jobs:
            self.assertEnds(job.wait(), 0)
        self.assertSameCurve(run, self.train(self.linear), 1e-5)

    def test_by_hand_and_a_host_vanishes(self):
        run, jobs = self.start_by_hand("epochs=1000000", f"comm.timeout_seconds={SHORT}")
        pulled = self.pull_cable(run, *jobs)
        for job in jobs:
            self.assertEnds(job.wait(), COMMUNICATION)
        self.assertLess(time.monotonic() - pulled, SHORT + soon())
        for rank, job in enumerate(jobs):
            self.assertRegex(job.errors, gone(NAMES[1 - rank // 2]))
        self.assertRegex(contents(f"{run}/failure.txt").decode(), gone(NAMES[1]))

    @unittest.skipIf(mpirun_version() == 0, "mpirun is not Open MPI's")
    def test_mpirun(self):
        run, job = self.start_mpirun()
        self.assertEnds(job.wait(), 0)
        self.assertEqual(metrics(run), metrics(self.train(self.linear, ranks=4)))

    @unittest.skipIf(mpirun_version() != 4, "of other versions it is not known how to tell them")
    def test_mpirun_and_a_host_vanishes(self):
        """As README says, but in less time."""
        looks = {f"OMPI_MCA_oob_tcp_keepalive_{name}": "2" for name in ("time", "intvl", "probes")}
        run, job = self.start_mpirun("epochs=1000000", environment=looks)
        pulled = self.pull_cable(run, job)
        job.wait()
        self.assertNotIn(job.code, (0, None), self.said(job))
        self.assertLess(time.monotonic() - pulled, 6 + soon())
        self.assertRegex(job.output + job.errors, f"{NAMES[1]}|{ADDRESSES[1]}")
        self.assertEqual(job.leftovers, [])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: only root makes hosts")
        raise SystemExit(SKIP)
    main()
