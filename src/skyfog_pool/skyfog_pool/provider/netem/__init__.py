"""A network between namespaces of this machine, in user space."""
