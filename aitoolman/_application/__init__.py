"""The application: modules of prompt templates, tools and processors, called like functions."""
