"""Tables, figures and numbers, drawn from the records in ``figures/results``.

- ``pages.py``: the markers in README and notebooks, and the command
- ``tables.py``: where to add a table
- ``figures.py``: where to add a figure
- ``grid.py``: the cells of session 4 as rows of a table and lines of a figure
- ``localization.py``: graded maps as rows of a table
- ``numbers.py``: which records count, and a number as their mean and spread
"""
