"""The fixed prompts of benchmarks and of the same-text tests: 32 short tasks of different kinds.

Kinds matter because drafters fare differently on them: code and copying are easy to guess ahead, chat and
other languages are not, and a repeated word drives the n-gram lookup into long drafts that suddenly fail.
"""

CHAT = (
    "What is the capital of Portugal, and what is it known for?",
    "Explain to a child why the sky is blue.",
    "Give me three tips for sleeping better.",
    "Write a short poem about a lighthouse in winter.",
    "What should I pack for a weekend of hiking in the rain?",
    "Tell me a story about a robot that learns to bake bread.",
    "How does a bicycle stay upright while it moves?",
    "I have eggs, rice and spinach. What can I cook?",
    "Write a polite email asking my landlord to repair the heating.",
    "What is the difference between weather and climate?",
)

CODE = (
    "Write a Python function that returns the n-th Fibonacci number.",
    "Write a SQL query that lists the ten customers with the highest total of orders.",
    "Explain what this does: for i in range(len(xs) // 2): xs[i], xs[-i - 1] = xs[-i - 1], xs[i]",
    "Write a bash one-liner that counts the lines of all .py files below the current folder.",
    "Add type annotations to: def join(items, sep, last=None): return sep.join(items) + (last or '')",
    "Write an HTML page with a table of the days of the week and their numbers.",
)

SUMMARISE = (
    "Summarise in one sentence: The town council met on Tuesday to discuss the old bridge. Engineers had "
    "found cracks in two of its pillars. Members agreed to close it to lorries at once and to all traffic "
    "from May, while a temporary crossing is built further down the river.",
    "List the key facts: Honey bees visit about two million flowers to make one pound of honey. A worker "
    "lives six weeks in summer and makes a twelfth of a teaspoon in her life. Bees tell each other where "
    "flowers are by dancing.",
    "Give this text a title: Last night the orchestra played to a full hall for the first time in two years. "
    "The conductor, who is leaving in June, was called back four times.",
    "Turn into bullet points: First preheat the oven to 200 degrees. Mix flour, salt and yeast, add warm "
    "water, and knead for ten minutes. Let the dough rest for an hour, shape it, and bake for half an hour.",
)

COPY = (
    "Repeat this sentence five times: The quick brown fox jumps over the lazy dog.",
    "Copy this list exactly: apple, banana, cherry, apple, banana, cherry, apple, banana, cherry, date.",
    "Count from 1 to 60, with commas between the numbers.",
    "Write the alphabet three times, once per line.",
    "Say the word 'echo' thirty times, then say 'silence' once.",
    "Rewrite with 'cat' instead of 'dog': The dog saw another dog. The dog barked. The other dog ran away.",
)

LANGUAGES = (
    "Écris une courte recette de crêpes.",
    "Erkläre in zwei Sätzen, was Photosynthese ist.",
    "¿Cuáles son los planetas del sistema solar?",
    "Scrivi una breve lettera a un amico che vive lontano.",
    "Translate to French: I would like two tickets for the train to Lyon, please.",
    "日本の首都はどこですか。",
)

KINDS = {"chat": CHAT, "code": CODE, "summarise": SUMMARISE, "copy": COPY, "languages": LANGUAGES}

PROMPTS = tuple(prompt for prompts in KINDS.values() for prompt in prompts)
"""All 32, in a fixed order."""


HELD_OUT = (
    "Write a poem about a fairy swallow.",
    "What is the history of a mackinaw?",
    "What is a line storm?",
    "What is the history of inconvenience?",
    "Write a short story about a brickyard.",
    "Write a dialogue between a teacher and a student about common hyacinth.",
    "How is uphill related to instructorship?",
    "How does a rainbow seaperch work?",
    "Imagine that you are a gavel. Describe your day.",
    "Write a blog post introduction about a tower cress.",
)
"""Chat prompts of the kind that the drafter that comes along was trained on, kept apart from its training: every
sixteenth of the 155 there are."""


def conversation(prompt: str, nonce: str | None = None) -> list[dict[str, str]]:
    """Return chat messages; a ``nonce`` stands at their very start, so that no prefix cache knows them."""
    user = {"role": "user", "content": prompt}
    return [user] if nonce is None else [{"role": "system", "content": f"{nonce}: answer well."}, user]
