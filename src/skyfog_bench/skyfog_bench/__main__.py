"""`python -m skyfog_bench NAME`: the same as `skyfog bench NAME`."""

from skyfog_bench.cli import app

app(prog_name="skyfog_bench")
