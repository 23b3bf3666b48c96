"""Jupyter and IPython: what ``%load_ext aitoolman`` adds, thin over the application.

`extension` puts everything in place and takes it away again. Magics (`magics`) turn text into calls
of the normal API; `guard` ends awaiting cells on Interrupt and Stop; `collector` and `view` show
streams; `display` shows values. IPython and ipywidgets are imported here and nowhere else.
"""
