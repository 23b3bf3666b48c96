"""Program with large language models as normal workers."""
