"""Independent jobs over processes of this machine, or over a Ray cluster; trainings over devices.

A job is numbers of parts to do; whoever does a part writes it to disk, complete or not at all,
under a name that follows from the job. So a part that is done twice, after a worker was lost, is
the same file again, and nothing is collected in memory.
"""

from fli2moe.parallel.encoding import EncodeJob, encode_job
from fli2moe.parallel.explaining import ExplainJob
from fli2moe.parallel.launching import launch
from fli2moe.parallel.workers import run_parts

__all__ = ["EncodeJob", "ExplainJob", "encode_job", "launch", "run_parts"]
