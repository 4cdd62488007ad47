"""A disk whose syncs take longer: `--sync-us N` of the benchmarks.

What a sync costs decides most of their ratios, and it differs a hundredfold between machines: where it is next to nothing, as
on many virtual disks, whoever makes one a task seems as quick as whoever makes one for many. With this, fsync and fdatasync
return N µs later, in every process of the run, covenq's and the yardsticks' alike. It takes a C compiler.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int late(const char *name, int fd)
{
    long us = atol(getenv("SLOW_SYNC_US") ? getenv("SLOW_SYNC_US") : "0");
    struct timespec more = {us / 1000000, us % 1000000 * 1000};
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    nanosleep(&more, NULL);
    return result;
}

int fsync(int fd) { return late("fsync", fd); }
int fdatasync(int fd) { return late("fdatasync", fd); }
"""


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sync-us", type=int, default=0, help="microseconds that each sync is to take longer")


def shortest_sync_us() -> float:
    """Of a few syncs of this process, in microseconds."""
    with tempfile.TemporaryFile() as file:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return min(times) * 1e6


def apply(sync_us: int) -> None:
    """Start this script again with slower syncs, unless that was done.

    Raises SystemExit where there is no compiler, and where syncs are no slower for it: a linker leaves a library out with a
    warning, and the figures would be those of the disk as it is.
    """
    if not sync_us:
        return
    if "SLOW_SYNC_US" in os.environ:
        took = shortest_sync_us()
        if took < sync_us:
            raise SystemExit(f"--sync-us {sync_us}: a sync takes {took:.0f} µs all the same")
        return
    directory = Path(tempfile.mkdtemp(prefix="slow-sync-"))
    source, library = directory / "slow.c", directory / "slow.so"
    source.write_text(SOURCE)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"--sync-us needs a C compiler: {error}") from error
    os.environ |= {"SLOW_SYNC_US": str(sync_us), "LD_PRELOAD": str(library)}
    os.execv(sys.executable, sys.orig_argv)
