"""Further benchmarks: a record for each. Importing them loads no library that counts or judges."""

from poet.evaluate.benchmarks.arena import ARENA
from poet.evaluate.benchmarks.safety import SAFETY

BENCHMARKS = {benchmark.name: benchmark for benchmark in (SAFETY, ARENA)}
