"""Hubkeep: a self-hosted IoT hub that devices and services made for Azure IoT Hub connect to unchanged.

The tree is the architecture (docs/architecture.md): ``wire`` turns bytes into values, ``connection`` owns the links,
``device``, ``messaging`` and ``cloud`` hold the rules, ``store`` keeps what was promised, ``server`` puts it together.
"""

__version__ = "0.1.0"
