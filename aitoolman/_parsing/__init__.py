"""Reading what a model wrote: JSON and XML among prose, fences and thoughts. Standard library only.

Other layers use the public module `aitoolman.postprocess`, which names everything here.
"""

from __future__ import annotations

from .json_text import ParsedJson, note_repairs, parse_json, parse_json_details
from .xml_text import get_xml_tag_content
from .xml_tree import parse_xml

__all__ = [
    "ParsedJson",
    "get_xml_tag_content",
    "note_repairs",
    "parse_json",
    "parse_json_details",
    "parse_xml",
]
