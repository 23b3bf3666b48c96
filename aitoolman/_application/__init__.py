"""The application: modules made of prompts, tools and post-processors, and workflows of tasks."""
