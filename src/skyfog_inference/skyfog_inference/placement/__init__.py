"""MoE-Lightning: the hierarchical roofline model, the policy that it chooses, and the order of its tasks."""
