"""A language model's replica in simulated time: the schedulers that serve, and a machine out of data sheets."""
