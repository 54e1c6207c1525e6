"""Tests of architecture search."""
