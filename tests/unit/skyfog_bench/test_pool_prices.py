"""Recorded spot prices."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from skyfog_bench.pool.prices import read_prices
from skyfog_sim.spot_traces import TraceError

WHEN = "2022-05-31T21:18:00+00:00"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "prices.tsv.zst"
    path.write_bytes(zstandard.compress("".join(line + "\n" for line in lines).encode()))
    return path


def test_a_region_has_the_median_of_its_zones(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"use1-az1\tp3.2xlarge\tLinux/UNIX\t3.060000\t{WHEN}",
        f"use1-az2\tp3.2xlarge\tLinux/UNIX\t0.918000\t{WHEN}",
        f"use1-az5\tp3.2xlarge\tLinux/UNIX\t0.920000\t{WHEN}",
        f"use1-az2\tp3.2xlarge\tWindows\t9.000000\t{WHEN}",
        f"usw2-az1\tg4dn.xlarge\tLinux/UNIX\t0.157800\t{WHEN}",
        f"euw3-az2\tg4dn.xlarge\tLinux/UNIX\t0.262100\t{WHEN}",
        f"usw2-az1\tc5.large\tLinux/UNIX\t0.040000\t{WHEN}",
    )
    assert read_prices(path) == {("us-east-1", "v100_1"): 0.92, ("us-west-2", "t4_1"): 0.1578}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("use1-az1\tp3.2xlarge\tLinux/UNIX\t3.06", "4 columns"),
        (f"use1-az1\tp3.2xlarge\tLinux/UNIX\tcheap\t{WHEN}", "the price is 'cheap'"),
        (f"use1-az1\tp3.2xlarge\tLinux/UNIX\t-1\t{WHEN}", "the price is '-1'"),
        (f"use1-az1\tp3.2xlarge\tLinux/UNIX\tnan\t{WHEN}", "the price is 'nan'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path, f"use1-az2\tp3.2xlarge\tLinux/UNIX\t0.918\t{WHEN}", line)
    with pytest.raises(TraceError, match=says) as caught:
        read_prices(path)
    assert f"{path}:2:" in str(caught.value)


def test_a_file_that_is_not_compressed_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.tsv.zst"
    path.write_text("use1-az1\tp3.2xlarge\n")
    for one in (path, tmp_path / "absent"):
        with pytest.raises(TraceError, match="no prices to be read"):
            read_prices(one)
