"""The posture of a deployment: what is weak, what mending it costs, and whether it got better. Start at ``report``."""
