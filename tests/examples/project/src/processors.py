"""Post-processors of the example programs."""

import re

CATEGORIES = {
    "money": ("Billing", "Payment"),
    "error": ("Technical Support", "Fault"),
    "login": ("Technical Support", "Access"),
    "question": ("Business Inquiry", "General"),
}


def extract_code(text: str) -> str:
    """The content of the first code block."""
    block = re.search(r"```\w*\n(.*?)```", text, re.DOTALL)
    if block is None:
        raise ValueError("there is no code block in the answer")
    return block[1]


def parse_classification(text: str) -> dict:
    """Main and sub category for the word that the model chose."""
    word = re.search("|".join(CATEGORIES), text.lower())
    if word is None:
        raise ValueError(f"no known category in {text!r}")
    main, sub = CATEGORIES[word[0]]
    return {"main": main, "sub": sub}
