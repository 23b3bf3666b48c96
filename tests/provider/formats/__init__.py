"""Tests of the vendor formats."""
