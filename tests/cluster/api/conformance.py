"""OpenAI's own types as a judge of answers: they refuse what clients would not understand."""

from openai.types import Completion


def strict(model, answer, *extensions):
    """Validate as OpenAI's types define it; no unknown fields but metrics and ``extensions``. Return the answer."""
    body = answer.model_dump()
    if model is Completion:
        # OpenAI sends null in all chunks but the last and for an echoed first token; its own type forbids both.
        for choice in body["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
            for name, value in (("token_logprobs", 0.0), ("top_logprobs", {})):
                if (choice["logprobs"] or {}).get(name, [0])[:1] == [None]:
                    choice["logprobs"][name][0] = value
    valid = model.model_validate(body, strict=True)
    parts = [valid, *valid.choices]
    parts += [
        part
        for choice in valid.choices
        for part in (getattr(choice, "message", None), getattr(choice, "delta", None))
        if part
    ]
    unknown = {name for part in parts for name in part.model_extra or {}}
    assert unknown <= {"metrics", *extensions}, unknown
    return answer
