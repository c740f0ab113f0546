"""Experiments on Skyfog beside its peers; each ends in one report (architecture.md, section 9)."""
