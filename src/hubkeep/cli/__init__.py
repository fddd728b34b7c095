"""The ``hubkeep`` command. ``main`` has the table of commands; ``client`` talks to a running hub."""
