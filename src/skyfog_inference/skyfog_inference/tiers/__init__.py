"""Back ends of `tier.Tier`: RAM, disk, GPU."""
