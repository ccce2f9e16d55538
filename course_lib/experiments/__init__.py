"""Recipes, runs and their records."""
