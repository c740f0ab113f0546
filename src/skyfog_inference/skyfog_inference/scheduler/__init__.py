"""Which tokens a step computes, and where: one protocol, several policies."""
