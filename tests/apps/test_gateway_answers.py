"""Questions over the sample documents, asked through the gateway to a served model: answers are those of `run`."""

from __future__ import annotations

import pytest

from tests.apps.gateways import gateway_to
from tokenry import Pipeline, data
from tokenry.apps.server.model import ModelApi
from tokenry.apps.server.speaking import Speaker
from tokenry.models.generate.answer import Sampling
from tokenry.models.text.document import Document

AROUND = 400
"""Characters of a document around what answers a question: whole ones take minutes each."""


def asked(question):
    """A part of the document that answers a question."""
    text = data.read(question.document)
    at = text.index(question.evidence)
    return text[max(0, at - AROUND) : at + len(question.evidence) + AROUND]


def answers(language, folder, use, questions, most):
    """What `run` says to each question, and what a client hears through the gateway."""
    speaker, pipeline = Speaker(language, use), Pipeline([use] if use else [])
    run = [
        pipeline.run([Document(asked(q), name=q.document)], language, q.ask, Sampling(max_new_tokens=most))[0].answer
        for q in questions
    ]
    heard = []
    with gateway_to(ModelApi(speaker).app(), folder) as (client, _):
        for q in questions:
            messages = [{"role": "user", "content": f"{asked(q)}\n\n{q.ask}"}]
            said = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": most})
            heard.append(said.json()["choices"][0]["message"]["content"])
    speaker.close()
    return run, heard


@pytest.mark.parametrize("use", [None, "token_select:budget=64"])
def test_an_answer_is_that_of_run(smollm2, tmp_path, use):
    run, heard = answers(smollm2, tmp_path, use, data.questions()[:1], 6)
    assert run == heard
    assert run[0]


@pytest.mark.slow
def test_thirty_answers_are_those_of_run(smollm2, tmp_path):
    questions = data.questions()
    run, heard = answers(smollm2, tmp_path, "token_select:budget=256", questions, 32)
    assert run == heard
    assert len(run) == 30
