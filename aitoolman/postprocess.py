"""Text in, data out: JSON and XML from what a model wrote.

Usable on any text, and as post-processors of modules under the names ``parse_json``,
``parse_xml:root`` and ``get_xml_tag_content:root``, with or without ``builtin.`` in front.
"""

from __future__ import annotations

from ._parsing import (
    ParsedJson,
    get_xml_tag_content,
    note_repairs,
    parse_json,
    parse_json_details,
    parse_xml,
)

__all__ = [
    "ParsedJson",
    "get_xml_tag_content",
    "note_repairs",
    "parse_json",
    "parse_json_details",
    "parse_xml",
]
