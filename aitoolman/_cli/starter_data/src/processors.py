"""Post-processors: text from the model in, data for the program out."""

LABELS = {"payment": "billing", "crash": "bug", "login": "login", "question": "question"}
"""Small models choose better among plain words; the program wants its own labels."""


def ticket_label(text: str) -> str:
    """The label for the word that the model answered with."""
    for word, label in LABELS.items():
        if word in text.lower():
            return label
    raise ValueError(f"none of {', '.join(LABELS)} in {text!r}")
