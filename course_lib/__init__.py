"""The library that the vision course is written with.

From the ground up, each floor importing only those below it:

0  ``addresses`` (what lies outside), ``setup`` (of a notebook), ``files`` (whole or not at all),
   ``checks`` (of settings) and ``runtime`` (where am I)
1  ``models``
2  ``data``, ``training`` and ``explain``, which do not know each other
3  ``experiments``, ``plots`` and ``exercises``
4  the four commands, ``train``, ``publish``, ``localize`` and ``report``
"""

__version__ = "0.1.0"
