"""The pytest plug-in of users own tests: see ``hubkeep.testing``."""
