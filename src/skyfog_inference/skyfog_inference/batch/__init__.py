"""A file of requests through a model: what is asked, what was answered, and the run between them."""
