"""Further benchmarks: each module's ``BENCHMARK``. Importing them loads no library that counts."""

from poet.evaluate.records import records

BENCHMARKS = records(__name__, __path__, "BENCHMARK")
