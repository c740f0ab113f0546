"""What machines cost on AWS, in USD an hour: spot as the market says, on demand as the price list says."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any

import structlog

from skyfog_pool.provider.aws_options import AwsOptions
from skyfog_pool.provider.aws_session import Aws, pages, told
from skyfog_pool.provider.base import Misconfigured, ProviderError

log = structlog.get_logger(__name__)

# Stands in where AWS's price list may not be asked: Linux, shared tenancy, us-east-1, put down by hand in November 2026
# and not fetched from AWS. Other regions cost up to a half more; provider_options.on_demand_prices overrules it.
LISTED_AS_OF = "2026-11"
LISTED_USD = {
    "t3.medium": 0.0416,
    "t3.large": 0.0832,
    "t3.xlarge": 0.1664,
    "m5.large": 0.096,
    "m5.xlarge": 0.192,
    "m6i.large": 0.096,
    "m6i.xlarge": 0.192,
    "m6i.2xlarge": 0.384,
    "m7i.large": 0.1008,
    "m7i.xlarge": 0.2016,
    "m7i.2xlarge": 0.4032,
    "c5.xlarge": 0.17,
    "c6i.xlarge": 0.17,
    "c6i.2xlarge": 0.34,
    "c6i.8xlarge": 1.36,
    "c7i.xlarge": 0.1785,
    "c7i.2xlarge": 0.357,
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
}


def spot_prices(aws: Aws, region: str, types: list[str]) -> dict[tuple[str, str], float]:
    """By zone and type, now. Raises Unavailable, Misconfigured."""
    with told(f"spot prices in {region}"):
        history = pages(
            aws.ec2(region),
            "describe_spot_price_history",
            "SpotPriceHistory",
            InstanceTypes=types,
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.now(UTC),  # from now on: just the price that is in force
        )
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for item in history:
        key = item["AvailabilityZone"], item["InstanceType"]
        if key not in newest or item["Timestamp"] > newest[key]["Timestamp"]:
            newest[key] = item
    return {key: float(item["SpotPrice"]) for key, item in newest.items()}


class OnDemandPrices:
    """Asked once a type and region. Safe to use from several threads."""

    def __init__(self, aws: Aws, options: AwsOptions) -> None:
        self._aws = aws
        self._given = options.on_demand_prices
        self._known: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def of(self, region: str, name: str) -> float:
        """Raises Misconfigured where nobody knows the price."""
        if name in self._given:
            return self._given[name]
        with self._lock:
            if (region, name) not in self._known:
                self._known[region, name] = self._look_up(region, name)
            return self._known[region, name]

    def _look_up(self, region: str, name: str) -> float:
        why = "AWS's price list has none"
        try:
            listed = self._from_list(region, name)
        except ProviderError as error:
            listed, why = None, str(error)
        if listed is not None:
            return listed
        if name in LISTED_USD:
            log.warning("on_demand_price_from_table", type=name, region=region, as_of=LISTED_AS_OF, why=why)
            return LISTED_USD[name]
        raise Misconfigured(
            f"on-demand price of {name} in {region} is not known ({why}): allow pricing:GetProducts, "
            f"or give provider_options.on_demand_prices.{name}"
        )

    def _from_list(self, region: str, name: str) -> float | None:
        fields = {
            "instanceType": name,
            "regionCode": region,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
        with told(f"on-demand price of {name} in {region}"):
            # The price list of all regions is served in a few; this is one.
            client = self._aws.client("pricing", "us-east-1")
            products = client.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10)["PriceList"]
        for product in products:
            for term in json.loads(product).get("terms", {}).get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    usd = float(dimension["pricePerUnit"].get("USD", 0))
                    if usd > 0:
                        return usd
        return None
