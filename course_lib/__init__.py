"""The library that the vision course is written with.

Rooms, from the ground up: ``runtime``; then ``models``, ``data``, ``training`` and ``explain``, which
do not know each other; then ``plots``, ``recipes``, ``records``,
``train``, ``report`` and ``exercises``, which tie them together.
"""

__version__ = "0.1.0"
