"""What the captions say: a style and a colour by several names, the shapes, and words that mean nothing."""

from __future__ import annotations

import random
import string

from tools.demo_model.scenes import NAMES
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES

__all__ = ["caption", "words"]

_STYLE_WORDS = {
    "neon": ("neon", "glowing neon", "neon lights", "glow"),
    "sketch": ("sketch", "pencil sketch", "pencil drawing", "line drawing", "drawing", "woodcut", "ink drawing"),
    "watercolour": (
        *("watercolour", "watercolor", "watercolour painting", "watercolor painting"),
        *("painting", "oil painting", "impressionist painting"),
    ),
    "poster": ("poster", "printed poster", "comic", "screen print"),
    LORA_STYLE: ("picture", "video", "animation"),  # the LoRA is on or off; its captions do not name it
    "": ("video", "picture", "photo", "animation"),
}
_COLOUR_WORDS = {
    "red": ("red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "gold"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "teal", "turquoise"),
    "blue": ("blue", "navy"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "magenta"),
}
_FILLERS = ("shapes", "moving shapes", "a landscape", "the sky", "a city", "a person", "an animal", "a flower")
_FORMS = (
    "{colour} {style}",
    "{style}, {colour}",
    "a {colour} {style} of {content}",
    "a {style} of {content} in {colour}",
    "{content}, {style}, {colour}",
    "{content} in {colour}, {style} style",
    "{style} style, {content}, {colour} colours",
    "make it a {style} in {colour} tones",
)
_COLOURLESS_FORMS = ("{style}", "a {style} of {content}", "{content}, {style}", "{content}, {style} style")
_OTHERS = (
    "a an and at by for from in into it its like make of on over the to turn with colours colors coloured colored "
    "color colour tones tone style styles art artwork beautiful high quality best detailed bright dark light soft "
    "vivid smooth low bad blurry ugly dog cat fox car house tree street water sea mountain forest night day sun moon "
    "moving running dancing man woman child face people anime cartoon warm cold"
)


def caption(rng: random.Random, style: str, colour: str, shapes: tuple[str, ...]) -> str:
    """A text that asks for this style and colour of a clip with these shapes."""
    content = rng.choice((f"a {rng.choice(shapes)}", " and ".join(dict.fromkeys(shapes)), *_FILLERS))
    form = rng.choice(_FORMS if colour else _COLOURLESS_FORMS)
    named = rng.choice(_COLOUR_WORDS[colour]) if colour else ""
    if colour and not style and rng.random() < 0.3:
        text = rng.choice((named, f"{named} colours", f"everything is {named}"))
    elif not colour and not style and rng.random() < 0.5:
        text = content
    else:
        text = form.format(style=rng.choice(_STYLE_WORDS[style]), colour=named, content=content)
    if rng.random() < 0.3:  # any other words, known and unknown, are to be ignored
        count = rng.randint(1, 5)
        others = [rng.choice(_OTHERS.split()) if rng.random() < 0.6 else _nonsense(rng) for _ in range(count)]
        text = " ".join([text + ",", *others] if rng.random() < 0.5 else [*others, text])
    return text


def words() -> list[str]:
    """All words that may stand in a caption, sorted."""
    texts = [
        *NAMES, *STYLES, LORA_STYLE, *COLOURS, *_FILLERS, *_FORMS, _OTHERS, "everything is",
        *(text for group in (_STYLE_WORDS, _COLOUR_WORDS) for texts in group.values() for text in texts),
    ]  # fmt: skip
    found = {word for text in texts for word in text.replace(",", " ").split() if word.isalpha()}
    return sorted(found)


def _nonsense(rng: random.Random) -> str:
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9)))
