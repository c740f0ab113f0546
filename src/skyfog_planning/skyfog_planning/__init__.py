"""Motion planning as a stateless service: collision-free, timed, checked by somebody else before it is returned."""
