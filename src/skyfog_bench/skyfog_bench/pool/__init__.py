"""`skyfog bench pool`: policies for spot pools on recorded and generated markets, beside the omniscient optimum."""
